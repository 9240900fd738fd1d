"""``vllm bench serve``: its command line, and what its result file has to say to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from relforge.benching.model import Latency, LevelFigures, Percentile
from relforge.manifest.bench import Bench, BenchLevel
from relforge.manifest.release import Release
from relforge.serving.model import LaunchSpec

NAME = "vllm bench serve"
FOLDER = "/tmp/relforge-bench"  # noqa: S108 (a path in the container)
_METRICS = ("ttft", "itl", "tpot", "e2el")
_SHOWN_CHARS = 300
_SAME = 0.01
"""How far the tool's rates may be from those of its own counts and duration."""


class NotMeasured(Exception):
    """The load was not answered as asked; the text says in what."""


def bench_argv(
    release: Release, spec: LaunchSpec, bench: Bench, level: BenchLevel, *, seed: int, file: str
) -> tuple[str, ...]:
    """The load of one level, run in the server's own container; ``file`` gets the result.

    Greedy, because otherwise the server's default decides how much sampling it measures.
    """
    serve = release.serve
    trusts = serve.args.get("trust-remote-code") is True
    return (
        *("vllm", "bench", "serve"),
        *("--backend", "openai"),
        *("--base-url", f"http://127.0.0.1:{spec.nodes[0].port}"),
        *("--endpoint", "/v1/completions"),
        *("--model", serve.served_name),
        *("--tokenizer", serve.model_path.replace("{model}", release.model)),
        *(("--trust-remote-code",) if trusts else ()),
        *("--dataset-name", "random"),
        *("--random-input-len", str(bench.input_tokens)),
        *("--random-output-len", str(bench.output_tokens)),
        *("--ignore-eos", "--temperature", "0"),
        *("--num-prompts", str(level.prompts)),
        *("--max-concurrency", str(level.concurrency)),
        *("--seed", str(seed)),
        *("--percentile-metrics", ",".join(_METRICS)),
        *("--metric-percentiles", ",".join(f"{p:g}" for p in bench.percentiles)),
        *("--disable-tqdm", "--save-result", "--save-detailed"),
        *("--result-dir", FOLDER, "--result-filename", file),
    )


class _Result(BaseModel):
    """The result file of vLLM 0.9 to 0.32; percentiles are extra fields, ``p99_ttft_ms``."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    num_prompts: int
    max_concurrency: int
    completed: int
    duration: float
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    output_throughput: float
    output_lens: list[int]
    itls: list[list[float]]
    errors: list[str]


def read_result(data: bytes, bench: Bench, level: BenchLevel, *, seed: int) -> LevelFigures:
    """The figures of a result file.

    Raises NotMeasured when the file is none, is of another load, or has requests that failed or
    were answered with fewer tokens than asked: a server that refuses half of its work is not fast.
    """
    try:
        result = _Result.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise NotMeasured(
            f"{NAME} wrote a result that cannot be read: {field}: {first['msg']}"
        ) from error
    _as_asked(result, bench, level)
    gaps = sum(len(one) for one in result.itls)
    n = {"ttft": level.prompts, "itl": gaps, "tpot": level.prompts, "e2el": level.prompts}
    latencies = {name: _latency(result, name, n[name], bench.percentiles) for name in _METRICS}
    return LevelFigures(
        concurrency=level.concurrency,
        prompts=level.prompts,
        seed=seed,
        duration_s=result.duration,
        request_per_s=result.request_throughput,
        output_tokens_per_s=result.output_throughput,
        input_tokens=result.total_input_tokens,
        output_tokens=result.total_output_tokens,
        **latencies,
    )


def _as_asked(result: _Result, bench: Bench, level: BenchLevel) -> None:
    if (result.num_prompts, result.max_concurrency) != (level.prompts, level.concurrency):
        raise NotMeasured(
            f"the result is of {result.num_prompts} prompts at {result.max_concurrency} at a time, "
            f"not of {level.prompts} at {level.concurrency}"
        )
    failed = level.prompts - result.completed
    if failed:
        said = next((error.strip() for error in result.errors if error), "")
        raise NotMeasured(
            f"{failed} of {level.prompts} requests failed at {level.concurrency} at a time"
            + (f": {said.splitlines()[-1][:_SHOWN_CHARS]}" if said else "")
        )
    short = [count for count in result.output_lens if count != bench.output_tokens]
    if short or len(result.output_lens) != level.prompts:
        raise NotMeasured(
            f"{len(short)} of {level.prompts} answers have another length than the "
            f"{bench.output_tokens} tokens that were asked for (the shortest has "
            f"{min(result.output_lens, default=0)})"
        )
    for what, said_rate, count in (
        ("requests", result.request_throughput, result.completed),
        ("output tokens", result.output_throughput, sum(result.output_lens)),
    ):
        if result.duration <= 0 or not math.isclose(
            said_rate, count / result.duration, rel_tol=_SAME
        ):
            raise NotMeasured(
                f"{NAME} says {said_rate:g} {what}/s, and counts {count} in {result.duration:g} s"
            )


def _latency(result: _Result, name: str, n: int, percentiles: Sequence[float]) -> Latency:
    extra: dict[str, Any] = result.model_extra or {}

    def figure(key: str) -> float:
        value = extra.get(key)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise NotMeasured(f"{NAME} gives {value!r} as {key}")
        return float(value)

    return Latency(
        n=n,
        mean_ms=figure(f"mean_{name}_ms"),
        percentiles=tuple(Percentile(p=p, ms=figure(f"p{p:g}_{name}_ms")) for p in percentiles),
    )
