"""The whole ladder on one server: warm up, load level after level, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from relforge.benching import machine
from relforge.benching.load import LoadedServer
from relforge.benching.model import BenchReport, BenchSettings, Level
from relforge.benching.tool import NAME, NotMeasured, bench_argv
from relforge.events import Verdict
from relforge.manifest.bench import BenchLevel
from relforge.serving.client import ServerFault

WARM_UP_SEED = 1_000_000_007
"""Far from every level's: what the warm-up asked must not lie in the prefix cache."""


class Ladder(NamedTuple):
    """The report, and the tool's result files in the order of the levels."""

    report: BenchReport
    raw: tuple[Path, ...]


def run_ladder(server: LoadedServer, folder: Path, on_line: Callable[[str], None]) -> Ladder:
    """Measures every level, and ends at the first that was not answered as asked: ``fail``.

    A first run at the highest level is thrown away: it fills pools and compiles what is compiled
    at first use. Raises Cancelled, and RelforgeError (ENVIRONMENT) when the engine fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    served, bench = server.served, server.bench
    host = machine.machine(served.container)
    verdict: Verdict = "pass"
    reason = ""
    levels: list[Level] = []
    raw: list[Path] = []
    peak: int | None = None
    try:
        on_line(f"warming up with {warm_up(server).prompts} requests")
        server.run(warm_up(server), seed=WARM_UP_SEED, raw=folder / "warm-up.json")
        for number, level in enumerate(bench.levels):
            path = folder / f"concurrency-{level.concurrency}.json"
            try:
                measured = server.run(level, seed=bench.seed + number, raw=path)
            finally:
                if path.exists():
                    raw.append(path)
            levels.append(measured)
            on_line(shown(measured))
            peak = machine.memory_peak_bytes(served.container) or peak
    except NotMeasured as failed:
        verdict, reason = "fail", str(failed)
    figures = [level.figures for level in levels]
    if verdict == "pass":
        best = max(figures, key=lambda level: level.output_tokens_per_s)
        reason = (
            f"{sum(level.prompts for level in figures)} requests answered in full; at most "
            f"{best.output_tokens_per_s:.0f} output tokens/s, at {best.concurrency} at a time"
        )
    report = BenchReport(
        verdict=verdict,
        reason=reason,
        settings=settings(server),
        machine=host,
        image_id=server.image_id,
        start_to_ready_s=served.start_to_ready_s,
        memory_peak_bytes=peak,
        levels=tuple(levels),
    )
    return Ladder(report, tuple(raw))


def warm_up(server: LoadedServer) -> BenchLevel:
    """As wide as the widest level, and two requests deep."""
    widest = server.bench.levels[-1].concurrency
    return BenchLevel(concurrency=widest, prompts=2 * widest)


def settings(server: LoadedServer) -> BenchSettings:
    """How it is measured; the tool is that of the image, so its version is the server's."""
    bench = server.bench
    return BenchSettings(
        bench=bench,
        tool=NAME,
        tool_version=_version(server),
        served_name=server.spec.served_name,
        device=server.release.device,
        server_argv=server.spec.nodes[0].argv,
        command=bench_argv(
            server.release,
            server.spec,
            bench,
            bench.levels[0],
            seed=bench.seed,
            file=f"concurrency-{bench.levels[0].concurrency}.json",
        ),
    )


def _version(server: LoadedServer) -> str:
    try:
        return str(json.loads(server.served.client.get("/version"))["version"])
    except (ServerFault, ValueError, KeyError, TypeError):
        return "unknown"


def shown(level: Level) -> str:
    """A level in one line."""
    figures = level.figures
    middle = figures.ttft.percentiles[0]
    return (
        f"{figures.concurrency} at a time: {figures.request_per_s:.2f} requests/s, "
        f"{figures.output_tokens_per_s:.1f} output tokens/s, "
        f"first token {middle.ms:.1f} ms (p{middle.p:g}), "
        f"{figures.prompts} requests in {figures.duration_s:.1f} s"
    )
