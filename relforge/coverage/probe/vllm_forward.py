"""vLLM's own forward pass, with the options that its server gets, but without its graphs.

An engine in this process reads a prompt and decodes; every worker watches its own passes, in its
own process where there are several. Compiled graphs and CUDA graphs would run past torch's
dispatcher, so the engine is told to run eagerly: the same operators and kernels of vLLM's own, less
those that a compiler would have fused. What the image does to torch when it serves, such as a
plugin that enables FlagGems, it does here too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relforge.coverage.probe import lazy, say
from relforge.coverage.probe.dispatch import Profile, Watch
from relforge.coverage.probe.trace import attribute, triton_kernels

_PASSES = ("execute_model", "sample_tokens")
"""Of a worker: together one pass of the model (vllm/v1/worker/worker_base.py)."""


def run(words: Sequence[str], *, seed: int, prompt_tokens: int, decode_steps: int) -> Any:
    """What the first rank saw (``CoverageWorker``), and the model as evidence describes it.

    ``words`` are those of ``vllm serve``. Raises ImportError where there is no vLLM.
    """
    # Within this process, so that what its only worker says is told by this process' errors.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    torch, vllm = lazy("torch"), lazy("vllm")
    engine = vllm.LLMEngine.from_engine_args(_arguments(words))
    config = engine.vllm_config
    high = int(config.model_config.get_vocab_size())

    def generate(number: int) -> None:
        source = torch.Generator().manual_seed(seed + number)
        prompt = torch.randint(high, (prompt_tokens,), generator=source).tolist()
        sampling = vllm.SamplingParams(
            temperature=0, max_tokens=decode_steps + 1, ignore_eos=True, detokenize=False
        )
        engine.add_request(str(number), {"prompt_token_ids": prompt}, sampling)
        while engine.has_unfinished_requests():
            engine.step()

    say("the engine is up")
    if engine.collective_rpc("relforge_device")[0] != "cpu":
        # What is compiled and tuned at first use is no part of a pass; another prompt, since
        # this one's would be found in the prefix cache.
        generate(2)
        say("first passes done")
    engine.collective_rpc("relforge_watch")
    generate(1)
    ranks = engine.collective_rpc("relforge_watched")
    text = config.model_config.hf_text_config
    sizes = {"layers": "num_hidden_layers", "hidden": "hidden_size"}
    shape = {name: getattr(text, field, None) for name, field in sizes.items()}
    return {
        **ranks[0],
        "ranks": len(ranks),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "model": {
            "name": Path(config.model_config.model).name,
            "parameters": stored_parameters(Path(config.model_config.model)),
            "shape": {"vocabulary": high, **{k: v for k, v in shape.items() if v is not None}},
        },
    }


def stored_parameters(folder: Path) -> int | None:
    """Elements of all tensors in a folder's safetensors files; None without such files.

    An engine packs and frees weights while it loads them, and then has other numbers. The format:
    eight bytes of length, little-endian, then JSON (huggingface/safetensors, README, "Format").
    """
    files = sorted(folder.glob("*.safetensors"))
    total = 0
    for path in files:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        total += sum(math.prod(tensor["shape"]) for tensor in header.values())
    return total if files else None


def _arguments(words: Sequence[str]) -> Any:
    """The engine's part of the server's options; the rest is its HTTP server's."""
    arguments = lazy("vllm.engine.arg_utils").EngineArgs
    try:
        parsing = lazy("vllm.utils.argparse_utils")
    except ModuleNotFoundError:  # older ones have it elsewhere
        parsing = lazy("vllm.utils")
    parser = arguments.add_cli_args(parsing.FlexibleArgumentParser())
    known, others = split(words, parser._option_string_actions)
    if others:
        say(f"options of the HTTP server alone: {' '.join(others)}")
    given = arguments.from_cli_args(parser.parse_args(known))
    given.enforce_eager = True
    given.disable_log_stats = True
    given.worker_extension_cls = f"{__name__}.CoverageWorker"
    return given


def split(words: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Options with their values: those that are known, and the others.

    A name may have underscores, a value behind ``=``, and keys of a mapping behind dots.
    """
    names = {name.replace("_", "-") for name in known}
    ours: list[str] = []
    others: list[str] = []
    into = others
    for word in words:
        if word.startswith("--"):
            name = word.split("=")[0].split(".")[0].replace("_", "-")
            into = ours if name in names else others
        into.append(word)
    return ours, others


class CoverageWorker:
    """What a worker of vLLM gets besides (``worker_extension_cls``)."""

    # The worker's own; declared and not set, since vLLM refuses an extension that has them.
    model_runner: Any
    vllm_config: Any

    def relforge_device(self) -> str:
        """torch's name of the device's type."""
        return str(self.model_runner.device.type)

    def relforge_watch(self) -> None:
        """From now on passes are watched, and profiled where the profiler knows the device."""
        self._relforge_watch = _Watched(self)

    def relforge_watched(self) -> dict[str, Any]:
        """What was seen, once; ``kernels`` of each call are None without such a device."""
        return self._relforge_watch.end()


class _Watched:
    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.watch = Watch(opened=frozenset({"vllm"}))
        self.passes = 0
        for name in _PASSES:
            if hasattr(worker, name):
                setattr(worker, name, self._watching(getattr(worker, name)))
        device = worker.model_runner.device
        self.profile = Profile(device) if device.type == "cuda" else None

    def _watching(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.passes += work.__name__ == _PASSES[0]
            with self.watch.mode():
                return work(*args, **kwargs)

        return watched

    def end(self) -> dict[str, Any]:
        kernels = None if self.profile is None else attribute(self.profile.end())
        for name in _PASSES:
            if name in vars(self.worker):
                delattr(self.worker, name)
        if kernels is not None and not kernels:
            raise RuntimeError("the profiler saw no kernel on the device: is CUPTI there?")
        return {
            "names": self.watch.names,
            "kernels": kernels,
            "triton": None if kernels is None else triton_kernels(),
            "passes": self.passes,
            "attention": ", ".join(sorted(set(_backends(self.worker.vllm_config)))) or "unknown",
            "device": str(self.worker.model_runner.device),
        }


def _backends(config: Any) -> Iterator[str]:
    """The names of the attention backends of the model's layers."""
    layers: Mapping[str, Any] = config.compilation_config.static_forward_context
    for layer in layers.values():
        backend = getattr(layer, "attn_backend", None)
        if backend is not None:
            yield str(backend.get_name())
