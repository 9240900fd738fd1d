"""The benchmark's figures made again from the times of each request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relforge.benching.model import BenchReport, Latency, LevelFigures
from relforge.benching.tool import NotMeasured, read_result
from relforge.verifying.files import Files, json_object
from relforge.verifying.measured import Compared, differences

_SAME = 1e-6
"""Relative: the tool adds up in another order."""


def bench(files: Files, result: Mapping[str, Any]) -> Compared:
    """Report, levels, and each latency: from the tool's own files, request by request."""
    name = "evidence/bench.json"
    found = json_object(files.read(name), name)
    problems = [
        f"bench: {line}" for line in differences(result.get("report"), found, "record", name)
    ]
    report = BenchReport.model_validate(found)
    if result.get("verdict") != report.verdict:
        problems.append(f"bench: {result.get('verdict')} in record, {report.verdict} in {name}")
    requests = 0
    settings = report.settings.bench
    for number, level in enumerate(report.levels):
        figures = level.figures
        raw = f"evidence/bench/concurrency-{figures.concurrency}.json"
        data = files.read(raw)
        try:
            again = read_result(
                data, settings, settings.levels[number], seed=settings.seed + number
            )
        except (NotMeasured, IndexError) as error:
            problems.append(f"{raw}: {error}")
            continue
        lines = differences(
            figures.model_dump(mode="json"), again.model_dump(mode="json"), name, raw
        )
        problems += [f"bench at {figures.concurrency}: {line}" for line in lines]
        problems += [f"{raw}: {line}" for line in _by_request(json_object(data, raw), again)]
        requests += figures.prompts
    return Compared(
        problems=tuple(problems),
        said=f"{requests} requests of the benchmark" if requests else "the benchmark",
    )


def _by_request(raw: Mapping[str, Any], figures: LevelFigures) -> Iterator[str]:
    """Percentiles of the times that the file lists; versions of the tool that list none have none.

    Times are seconds in the file, milliseconds in figures.
    """
    first = _numbers(raw.get("ttfts"))
    whole = _numbers(raw.get("latencies"))
    gaps = [gap for one in raw.get("itls") or [] for gap in _numbers(one) or []]
    lengths = _numbers(raw.get("output_lens"))
    series: list[tuple[str, Latency, Sequence[float] | None]] = [
        ("ttft", figures.ttft, first),
        ("itl", figures.itl, gaps or None),
        ("e2el", figures.e2el, whole),
    ]
    if first and whole and lengths and min(lengths) > 1:
        each = [(w - f) / (n - 1) for w, f, n in zip(whole, first, lengths, strict=True)]
        series.append(("tpot", figures.tpot, each))
    for name, latency, seconds in series:
        if not seconds:
            continue
        times = sorted(second * 1000 for second in seconds)
        if len(times) != latency.n:
            yield f"it has {len(times)} times of {name}, and says {latency.n}"
            continue
        given = [("mean", latency.mean_ms, sum(times) / len(times))]
        given += [(f"p{p.p:g}", p.ms, _percentile(times, p.p)) for p in latency.percentiles]
        for what, said, again in given:
            if not math.isclose(said, again, rel_tol=_SAME):
                yield f"{name} {what} is given as {said:g} ms, its requests give {again:g} ms"


def _percentile(ordered: Sequence[float], p: float) -> float:
    """With linear interpolation between the two nearest, as NumPy's default does it."""
    place = (len(ordered) - 1) * p / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, list) or not all(isinstance(v, (int, float)) for v in value):
        return None
    return [float(v) for v in value]
