"""The process that computes: one JSON object in, one out, until its input ends.

It is a process of its own because a faulty kernel can leave it unusable. The first object it writes
says what it has; a request is a set of operators to disable with the questions to ask, or the word
``used``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from relforge.tuning.asking import SEARCH, Asked
from relforge.tuning.bare import lazy
from relforge.tuning.bare.agreeing import judged
from relforge.tuning.bare.gems import Gems
from relforge.tuning.bare.texts import DECODE_STEPS, PROMPT_TOKENS, Texts, numbers, small_decoder

SPOILED = "spoiled"
"""In an answer: native torch no longer computes what it did, so this process must not go on."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What decides a verdict; the parent takes the same options."""
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--margin-points", type=float, default=2.0)
    parser.add_argument("--exclude", default="", help="operators never enabled, a,b,c")
    parser.add_argument(
        "--plant",
        default="",
        metavar="A,B+C",
        help="operators made wrong on purpose, to test the search; B+C: B while C is enabled",
    )


def words(text: str) -> list[str]:
    """The names of a list with commas."""
    return sorted(filter(None, text.split(",")))


class Computer:
    """The decoder with FlagGems switched as asked, compared with native torch."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch = lazy("torch")
        self.margin_points = float(options.margin_points)
        self.exclude = words(options.exclude)
        self.gems = Gems(lazy("flag_gems"))
        self.gems.plant(words(options.plant))
        device = torch.device(options.device)

        def decoder() -> Any:
            return small_decoder(
                seed=options.seed,
                attention=options.attention,
                dtype=getattr(torch, options.dtype),
                device=device,
            )

        self.decoder, exact = decoder(), decoder()
        exact.widen()
        self.texts = Texts(self.decoder, exact, options.seed, device)
        self.canary = self._canary()
        self.about = {
            "kind": "bare",
            "model": self.decoder.about,
            "dtype": options.dtype,
            "attention": options.attention,
            "seed": options.seed,
            "margin_points": self.margin_points,
            "prompt_tokens": PROMPT_TOKENS,
            "decode_steps": DECODE_STEPS,
            "excluded": self.exclude,
            "planted": words(options.plant),
            "versions": _versions(torch),
            "device": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"cpu {platform.machine()}",
            "driver": _driver() if device.type == "cuda" else None,
        }

    def hello(self) -> dict[str, Any]:
        """What is evaluated, and FlagGems' operators."""
        operators = [one for one in self.gems.operators if one not in self.exclude]
        return {"about": self.about, "operators": operators}

    def used(self) -> dict[str, Any]:
        """The operators that the decoder was seen to use."""
        used, ended = self.gems.used(lambda: self._tokens(SEARCH, 0))
        found = [one for one in used if one not in self.exclude]
        return {"used": found, "ended": ended, SPOILED: not self._sound()}

    def answer(self, asked: Asked) -> dict[str, Any]:
        """The verdict; whatever an operator raises is one."""
        native: list[bool] = []
        result: list[bool] = []
        prepared = [(*self.texts.of(*one),) for one in numbers(asked)]
        found: dict[str, Any]
        try:
            with self.gems.without([*asked.disabled, *self.exclude]):
                read = [self.texts.read(self.decoder, text) for text, _, _ in prepared]
            for (_, right, was), tokens in zip(prepared, read, strict=True):
                native += was
                result += (tokens == right).tolist()
            outcome, reason = judged(native, result, self.margin_points)
            found = {"outcome": outcome, "reason": reason, "n": len(native)}
        except Exception as error:  # noqa: BLE001 - a wrong operator may raise anything
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            found = {"outcome": "fail", "reason": reason[:300], "n": 0}
        return {**found, SPOILED: not self._sound()}

    def _tokens(self, part: int, number: int) -> list[int]:
        text = self.texts.of(part, number)[0]
        tokens: list[int] = self.texts.read(self.decoder, text).tolist()
        return tokens

    def _canary(self) -> Any:
        torch = lazy("torch")
        self.decoder.start()
        logits = self.decoder.step(self.texts.prompt(SEARCH, 0), 0)
        if logits.device.type == "cuda":
            torch.cuda.synchronize()
        return logits

    def _sound(self) -> bool:
        try:
            return bool(lazy("torch").allclose(self._canary(), self.canary, rtol=0, atol=1e-2))
        except Exception:  # noqa: BLE001 - a device in error raises anything
            return False


def _versions(torch: Any) -> dict[str, str | None]:
    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    found = {name: version(name) for name in ("triton", "flag_gems")}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **found}


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    words = done.stdout.split()
    return words[0] if done.returncode == 0 and words else None


def main(argv: Sequence[str]) -> int:
    """Answers until stdin ends."""
    parser = argparse.ArgumentParser(prog="worker")
    add_options(parser)
    options = parser.parse_args(argv)
    # Whatever a library prints must not stand among the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def write(value: dict[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    try:
        torch = lazy("torch")
        with torch.no_grad():
            computer = Computer(options)
            write(computer.hello())
            for line in sys.stdin:
                row = json.loads(line)
                if row == "used":
                    write(computer.used())
                else:
                    asked = Asked(frozenset(row["disabled"]), row["part"], row["level"])
                    write(computer.answer(asked))
    except (ImportError, ValueError, RuntimeError) as error:
        write({"unfit": f"{type(error).__name__}: {error}"})
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
