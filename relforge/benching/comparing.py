"""Two servers side by side, loaded in turn in random order, until it is known which is faster."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Literal

from relforge.benching import machine
from relforge.benching.deciding import Conclusion, Ratio, block_effect, judge, looks, ratio_of
from relforge.benching.ladder import WARM_UP_SEED, settings, shown, warm_up
from relforge.benching.load import LoadedServer
from relforge.benching.model import BenchSettings, Level, LevelFigures, Machine
from relforge.benching.tool import NotMeasured
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.bench import Bench, BenchLevel
from relforge.manifest.release import Release
from relforge.manifest.site import EngineSite
from relforge.serving.model import LaunchSpec

if TYPE_CHECKING:
    from docker import DockerClient

SideName = Literal["a", "b"]
THROUGHPUT = "output_tokens_per_s"
_ORDERS: tuple[tuple[SideName, ...], ...] = (("a", "b", "b", "a"), ("b", "a", "a", "b"))


class Candidate(Frozen):
    """One of the two: a release, as it is or changed, and how it is started. ``label`` says in
    words what distinguishes it."""

    label: str
    release: Release
    spec: LaunchSpec


class Rules(Frozen):
    """How it is decided, fixed before the first run."""

    bench: Bench
    level: BenchLevel
    metric: str
    confidence: float
    margin_percent: float
    most_blocks: int
    order_seed: int


class Run(Frozen):
    """One run of the load generator; its result file is ``file``."""

    block: int
    side: SideName
    file: str
    level: Level


class MetricRatio(Frozen):
    """A figure of both sides (geometric means over the runs) and B's as a multiple of A's."""

    name: str
    a: float
    b: float
    b_over_a: Ratio
    higher_is_better: bool


class Side(Frozen):
    """One side as it was served."""

    label: str
    release: str
    image_id: str
    start_to_ready_s: float
    memory_peak_bytes: int | None
    settings: BenchSettings


class BenchComparison(Frozen):
    """The evidence of a comparison: rules, both sides, every run in order, and what follows.

    ``looks`` are the numbers of blocks after which it was planned to judge.
    """

    conclusion: Conclusion
    rules: Rules
    looks: tuple[int, ...]
    blocks: int
    machine: Machine
    a: Side
    b: Side
    metrics: tuple[MetricRatio, ...]
    runs: tuple[Run, ...]

    @property
    def primary(self) -> MetricRatio:
        """The metric that the conclusion is about."""
        return next(m for m in self.metrics if m.name == self.rules.metric)


def metric_names(bench: Bench) -> tuple[str, ...]:
    """Every figure that is compared; the first is what decides where nobody says otherwise."""
    words = ("mean", *(f"p{p:g}" for p in bench.percentiles))
    return (THROUGHPUT, *(f"{name}_{word}_ms" for name in ("ttft", "itl") for word in words))


def value_of(figures: LevelFigures, metric: str) -> float:
    """The figure of that name."""
    if metric == THROUGHPUT:
        return figures.output_tokens_per_s
    name, word, _ = metric.split("_")
    latency = figures.ttft if name == "ttft" else figures.itl
    return latency.mean_ms if word == "mean" else latency.at(float(word.removeprefix("p")))


def compare_servers(
    a: Candidate,
    b: Candidate,
    rules: Rules,
    *,
    engine: DockerClient,
    site: EngineSite,
    run_id: str,
    folder: Path,
    cancel: CancelToken,
    on_line: Callable[[str], None],
) -> BenchComparison:
    """Serves both at once, and loads one at a time; ``folder`` gets logs and result files.

    Raises RelforgeError (GATE) when one of them does not answer the load in full, NotReady,
    RelforgeError (ENVIRONMENT) when a container cannot be started, and Cancelled.
    """
    (folder / "runs").mkdir(parents=True)
    with ExitStack() as stack:
        candidates: dict[SideName, Candidate] = {"a": a, "b": b}
        up: dict[SideName, LoadedServer] = {}
        for side, candidate in candidates.items():
            on_line(f"starting {side.upper()}: {candidate.label}")
            up[side] = stack.enter_context(
                _served(candidate, side, rules, engine, site, run_id, folder, cancel)
            )
        host = machine.machine(up["a"].served.container)
        for side, server in up.items():
            _measured(server, side, warm_up(server), WARM_UP_SEED, folder / "runs" / f"{side}.json")
        runs, planned = _runs(up, rules, folder / "runs", on_line)
        sides = {
            side: Side(
                label=candidate.label,
                release=candidate.release.name,
                image_id=up[side].image_id,
                start_to_ready_s=up[side].served.start_to_ready_s,
                memory_peak_bytes=machine.memory_peak_bytes(up[side].served.container),
                settings=settings(up[side]),
            )
            for side, candidate in candidates.items()
        }
    metrics = tuple(
        _metric(runs, name, len(planned), rules.confidence) for name in metric_names(rules.bench)
    )
    decided = next(m for m in metrics if m.name == rules.metric)
    return BenchComparison(
        conclusion=_judged(decided, rules),
        rules=rules,
        looks=planned,
        blocks=runs[-1].block + 1,
        machine=host,
        a=sides["a"],
        b=sides["b"],
        metrics=metrics,
        runs=tuple(runs),
    )


@contextmanager
def _served(
    candidate: Candidate,
    side: SideName,
    rules: Rules,
    engine: DockerClient,
    site: EngineSite,
    run_id: str,
    folder: Path,
    cancel: CancelToken,
) -> Iterator[LoadedServer]:
    from relforge.serving.smoke import serve_context

    with serve_context(
        candidate.spec,
        engine,
        run_id=run_id,
        log_path=folder / f"server-{side}.log",
        cancel=cancel,
        site=site,
    ) as served:
        yield LoadedServer(
            served=served,
            release=candidate.release,
            spec=candidate.spec,
            bench=rules.bench,
            log=folder / f"bench-tool-{side}.log",
            cancel=cancel,
            image_id=served.container.image_id,
        )


def _runs(
    up: dict[SideName, LoadedServer], rules: Rules, folder: Path, on_line: Callable[[str], None]
) -> tuple[list[Run], tuple[int, ...]]:
    planned = looks(rules.most_blocks)
    order = random.Random(rules.order_seed)  # noqa: S311 (no secret)
    runs: list[Run] = []
    for block in range(rules.most_blocks):
        seen: dict[SideName, int] = {"a": 0, "b": 0}
        for side in order.choice(_ORDERS):
            # Both sides get the same prompts, and no side gets any of them twice.
            seed = rules.bench.seed + 2 * block + seen[side]
            file = folder / f"{len(runs):03}-{side}.json"
            level = _measured(up[side], side, rules.level, seed, file)
            seen[side] += 1
            runs.append(Run(block=block, side=side, file=file.name, level=level))
            on_line(f"block {block + 1}, {side.upper()}: {shown(level)}")
        if block + 1 in planned:
            metric = _metric(runs, rules.metric, len(planned), rules.confidence)
            conclusion = _judged(metric, rules)
            on_line(f"after {block + 1} blocks: {said(metric)}, {conclusion}")
            if conclusion != "undecided":
                break
    return runs, planned


def _measured(
    server: LoadedServer, side: SideName, level: BenchLevel, seed: int, raw: Path
) -> Level:
    try:
        return server.run(level, seed=seed, raw=raw)
    except NotMeasured as failed:
        raise RelforgeError(
            f"{side.upper()} did not answer the load as asked, so there is nothing to compare",
            code=ExitCode.GATE,
            where=f"release {server.release.name}",
            why=str(failed),
            hint="read the server's log, or load it less: --concurrency",
            log=str(server.served.log_path),
        ) from failed


def _metric(runs: list[Run], name: str, looks_planned: int, confidence: float) -> MetricRatio:
    values: dict[SideName, list[float]] = {"a": [], "b": []}
    blocks: dict[int, dict[SideName, list[float]]] = {}
    for run in runs:
        value = value_of(run.level.figures, name)
        values[run.side].append(value)
        blocks.setdefault(run.block, {"a": [], "b": []})[run.side].append(value)
    effects = [block_effect(block["a"], block["b"]) for block in blocks.values()]
    return MetricRatio(
        name=name,
        a=geometric_mean(values["a"]),
        b=geometric_mean(values["b"]),
        b_over_a=ratio_of(effects, looks=looks_planned, confidence=confidence),
        higher_is_better=name == THROUGHPUT,
    )


def _judged(metric: MetricRatio, rules: Rules) -> Conclusion:
    return judge(
        metric.b_over_a,
        higher_is_better=metric.higher_is_better,
        margin_percent=rules.margin_percent,
    )


def said(metric: MetricRatio) -> str:
    """A ratio in words."""
    ratio = metric.b_over_a
    return f"{metric.name} of B is {ratio.ratio:.3f} of A's ({ratio.low:.3f} to {ratio.high:.3f})"
