"""The probe's command line: measures, and writes one evidence file."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from relforge.coverage.probe import FORMAT, comparing, lazy, say, vllm_forward
from relforge.coverage.probe.decoder import (
    Decoder,
    FolderDecoder,
    Shape,
    SmallDecoder,
    generate,
)
from relforge.coverage.probe.dispatch import Watch, profiled
from relforge.coverage.probe.trace import (
    attribute,
    rows_of,
    run_of,
    shares_of,
    triton_kernels,
)

NO_ACCELERATOR = "no accelerator"
AS_SERVED = "measured as it is served, not against native torch"
PROMPT_TOKENS = 32


class Unfit(Exception):
    """The arguments or the environment do not fit."""


def main(argv: Sequence[str]) -> int:
    """Runs one measurement; returns the exit status."""
    try:
        options = _options(argv)
        text = text_of(measure(options))
    except Unfit as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if options.out is None:
        sys.stdout.write(text)
        return 0
    # A kill in between leaves no half evidence.
    partial = options.out.with_name(f".{options.out.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(options.out)
    say(f"written: {options.out}")
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="relforge.coverage.probe", description="Measures which operators FlagGems took over."
    )
    parser.add_argument("--out", type=Path, help="the evidence file (default: stdout)")
    parser.add_argument("--model", type=Path, help="a folder with a model (needs transformers)")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decode-steps", type=int, default=8, help="that are profiled")
    parser.add_argument("--greedy-tokens", type=int, default=64, help="that are compared")
    parser.add_argument("--exclude", default="", help="FlagGems' functions to leave out, a,b,c")
    parser.add_argument("--date", help="goes into the evidence as it is")
    parser.add_argument("--vllm", action="store_true", help="vLLM's own forward pass")
    parser.add_argument("words", nargs="*", help="with --vllm, after --: those of `vllm serve`")
    options = parser.parse_args(argv)
    if bool(options.words) != options.vllm:
        raise Unfit("--vllm and the words of `vllm serve` belong together: --vllm -- --model ...")
    if min(options.decode_steps, options.greedy_tokens) < 1:
        raise Unfit("--decode-steps and --greedy-tokens: at least 1")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The evidence. Raises Unfit, and RuntimeError naming an operator that failed."""
    try:
        torch = lazy("torch")
    except ImportError as error:
        raise Unfit(f"torch cannot be imported: {error}") from error
    if options.vllm:
        return _served(options, torch)
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        raise Unfit("torch sees no CUDA device")
    device = torch.device("cuda" if there and options.device != "cpu" else "cpu")
    on_cpu = device.type == "cpu"
    dtype_name = options.dtype or ("float32" if on_cpu else "float16")
    source = torch.Generator().manual_seed(options.seed + 1)
    with torch.no_grad():
        decoder = _decoder(options, getattr(torch, dtype_name), device)
        about = decoder.about
        say(f"{about['name']}: {about['parameters']} parameters, {dtype_name} on {device}")
        high = about["shape"]["vocabulary"]
        prompt = torch.randint(high, (1, PROMPT_TOKENS), generator=source).to(device)
        if on_cpu:
            watch = Watch()
            with watch.mode():
                generate(decoder, prompt, options.decode_steps + 1)
            measured = _not_run(NO_ACCELERATOR)
            measured["native"] = {"operators": rows_of(watch.names, None), "unattributed_us": None}
        else:
            measured = _on_accelerator(options, decoder, prompt, device)
    return {
        "format": FORMAT,
        "date": options.date,
        "forward": "small decoder" if options.model is None else "transformers",
        "model": about,
        "settings": {
            "dtype": dtype_name, "seed": options.seed, "attention": options.attention,
            "prompt_tokens": PROMPT_TOKENS, "decode_steps": options.decode_steps,
            "greedy_tokens": options.greedy_tokens, "exclude": _excluded(options),
        },
        "versions": _versions(torch),
        "device": _device(torch, device),
        **measured,
    }  # fmt: skip


def _served(options: argparse.Namespace, torch: Any) -> dict[str, Any]:
    try:
        seen = vllm_forward.run(
            options.words, seed=options.seed, prompt_tokens=PROMPT_TOKENS,
            decode_steps=options.decode_steps,
        )  # fmt: skip
    except ImportError as error:
        raise Unfit(f"vLLM cannot be imported: {error}") from error
    device = torch.device(seen["device"])
    measured = _not_run(AS_SERVED)
    if seen["kernels"] is None:
        no_time = NO_ACCELERATOR if device.type == "cpu" else f"no profile of {device.type} devices"
        measured["shares"] = {"not_run": no_time}
        measured["served"] = {"operators": rows_of(seen["names"], None), "unattributed_us": None}
    else:
        run = measured["served"] = run_of(seen["names"], seen["kernels"], triton=seen["triton"])
        measured["shares"] = shares_of(
            run["operators"], run["unattributed_us"], run["unattributed_triton_us"]
        )
    return {
        "format": FORMAT,
        "date": options.date,
        "forward": "vllm",
        "model": seen["model"],
        "settings": {
            "dtype": seen["dtype"], "seed": options.seed, "attention": seen["attention"],
            "prompt_tokens": PROMPT_TOKENS, "decode_steps": options.decode_steps,
            "greedy_tokens": 0, "exclude": [], "passes": seen["passes"], "ranks": seen["ranks"],
        },
        "versions": {**_versions(torch), "vllm": _version("vllm")},
        "device": _device(torch, device),
        **measured,
    }  # fmt: skip


def _decoder(options: argparse.Namespace, dtype: Any, device: Any) -> Decoder:
    if options.model is None:
        length = PROMPT_TOKENS + max(options.decode_steps, options.greedy_tokens)
        return SmallDecoder(
            Shape(), seed=options.seed, length=length, attention=options.attention,
            dtype=dtype, device=device,
        )  # fmt: skip
    if not options.model.is_dir():
        raise Unfit(f"{options.model} is no folder")
    try:
        return FolderDecoder(options.model, attention=options.attention, dtype=dtype, device=device)
    except ImportError as error:
        raise Unfit(f"transformers cannot be imported: {error}") from error


def _not_run(reason: str) -> dict[str, Any]:
    parts = ("native", "flag_gems", "shares", "accuracy", "agreement")
    return {part: {"not_run": reason} for part in parts}


def _excluded(options: argparse.Namespace) -> list[str]:
    return sorted(filter(None, options.exclude.split(",")))


def _on_accelerator(
    options: argparse.Namespace, decoder: Decoder, prompt: Any, device: Any
) -> dict[str, Any]:

    def short() -> object:
        return generate(decoder, prompt, options.decode_steps + 1)

    def run() -> tuple[list[str], dict[int | None, list[tuple[str, float]]]]:
        watch = Watch()
        with watch.mode():
            events = profiled(short, device)
        return watch.names, attribute(events)

    short()
    names, kernels = run()
    if not kernels:
        raise RuntimeError("the profiler saw no kernel on the device: is CUPTI there?")
    native = generate(decoder, prompt, options.greedy_tokens)
    say("native torch: profiled and decoded")
    result = _not_run("flag_gems is not installed")
    result["native"] = run_of(names, kernels)
    try:
        flag_gems = lazy("flag_gems")
    except ModuleNotFoundError as error:
        say(f"flag_gems cannot be imported: {error}")
        return result
    first = Watch(keep=True)
    with enabled(flag_gems, _excluded(options)) as registered:
        say(f"FlagGems registered {len(registered)} operators; Triton compiles at first use")
        with first.mode():
            short()
        say("FlagGems: first run done")
        gems_names, gems_kernels = run()
        gems = generate(decoder, prompt, options.greedy_tokens)
        forced = generate(decoder, prompt, options.greedy_tokens, follow=native[0])[1]
        say("FlagGems: profiled and decoded")
    triton = triton_kernels()
    ran = {kernel for seen in gems_kernels.values() for kernel, _ in seen}
    if not ran & set(triton):
        raise RuntimeError("no kernel that ran is in Triton's cache: is TRITON_CACHE_DIR shared?")
    result["native"] = run_of(names, kernels, triton=triton)
    result["flag_gems"] = run_of(gems_names, gems_kernels, triton=triton, registered=registered)
    result["flag_gems"]["registered_operators"] = len(registered)
    result["shares"] = shares_of(
        result["flag_gems"]["operators"],
        result["flag_gems"]["unattributed_us"],
        result["flag_gems"]["unattributed_triton_us"],
    )
    other = {
        row["name"]
        for row in result["flag_gems"]["operators"]
        if row["registered"] or row["device"]["triton_calls"]
    }
    samples = {c: sample for c, sample in first.samples.items() if c.split("(")[0] in other}

    def watched(work: Callable[[], Any]) -> tuple[Any, set[str]]:
        kept: list[Any] = []
        events = profiled(lambda: kept.append(work()), device)
        seen = {kernel for each in attribute(events).values() for kernel, _ in each}
        return kept[0], seen & set(triton)

    def with_gems(work: Callable[[], Any]) -> Any:
        with enabled(flag_gems, _excluded(options)):
            given, seen = watched(work)
        if not seen:
            raise RuntimeError("FlagGems is not enabled: no Triton kernel ran in the comparison")
        return given

    def natively(work: Callable[[], Any]) -> Any:
        given, seen = watched(work)
        if seen:
            raise RuntimeError(f"FlagGems is still enabled: {sorted(seen)} ran")
        return given

    result["accuracy"] = comparing.compared(samples, with_gems, natively)
    say(f"compared {len(samples)} calls with native torch")
    decoder.widen()
    reference = generate(decoder, prompt, options.greedy_tokens, follow=native[0])[1]
    result["agreement"] = comparing.agreement(native, gems, forced, reference)
    return result


@contextlib.contextmanager
def enabled(flag_gems: Any, exclude: Sequence[str]) -> Iterator[frozenset[str]]:
    """FlagGems in force; yields the operators that it registered and that torch took."""
    context = flag_gems.use_gems(exclude=list(exclude))
    with context:
        asked = set(flag_gems.all_registered_keys())
        # torch notes "aten/add.Tensor/CUDA" once it has taken an implementation.
        taken = {entry.split("/")[1] for entry in context.lib._op_impls}
        yield frozenset(asked & taken)


def _versions(torch: Any) -> dict[str, str | None]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{name: _version(name) for name in ("triton", "flag_gems", "transformers")},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(torch: Any, device: Any) -> dict[str, str | None]:
    if device.type == "cpu":
        return {"kind": "cpu", "name": platform.machine(), "driver": None}
    if device.type != "cuda":
        return {"kind": device.type, "name": device.type, "driver": None}
    name = torch.cuda.get_device_name(device)
    return {"kind": device.type, "name": name, "driver": _driver()}


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def text_of(evidence: dict[str, Any]) -> str:
    """JSON with one operator, or one compared call, per line, so that it reads and diffs."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def block(value: Any, pad: str) -> str:
        if isinstance(value, dict):
            parts = [f"{line(key)}: {block(part, pad + '  ')}" for key, part in value.items()]
            ends = "{}"
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            parts, ends = [line(part) for part in value], "[]"
        else:
            return line(value)
        inner = ",\n".join(f"{pad}  {part}" for part in parts)
        return f"{ends[0]}\n{inner}\n{pad}{ends[1]}"

    return block(evidence, "") + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
