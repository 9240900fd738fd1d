"""What ``relforge bench compare`` prints."""

from __future__ import annotations

from relforge.benching.comparing import BenchComparison, MetricRatio
from relforge.benching.deciding import Conclusion
from relforge.frozen import Frozen

_SENTENCES: dict[Conclusion, str] = {
    "faster": "B is faster than A",
    "slower": "B is slower than A",
    "equivalent": "B and A differ by less than the margin",
    "undecided": "nobody can tell which is faster",
}


class MetricOutput(Frozen):
    """One figure: geometric means of A and B, and B's as a multiple of A's with its interval."""

    metric: str
    a: float
    b: float
    ratio: float
    interval: tuple[float, float]


class BenchComparisonOutput(Frozen):
    """What ``relforge bench compare --json`` prints; stable. ``evidence`` is the folder with every
    run."""

    conclusion: Conclusion
    metric: str
    ratio: float
    interval: tuple[float, float]
    confidence: float
    margin_percent: float
    blocks: int
    concurrency: int
    prompts: int
    metrics: tuple[MetricOutput, ...]
    evidence: str


def output(comparison: BenchComparison, evidence: str) -> BenchComparisonOutput:
    """A comparison as ``--json`` has it."""
    decided, rules = comparison.primary.b_over_a, comparison.rules
    return BenchComparisonOutput(
        conclusion=comparison.conclusion,
        metric=rules.metric,
        ratio=round(decided.ratio, 4),
        interval=(round(decided.low, 4), round(decided.high, 4)),
        confidence=rules.confidence,
        margin_percent=rules.margin_percent,
        blocks=comparison.blocks,
        concurrency=rules.level.concurrency,
        prompts=rules.level.prompts,
        metrics=tuple(
            MetricOutput(
                metric=metric.name,
                a=round(metric.a, 4),
                b=round(metric.b, 4),
                ratio=round(metric.b_over_a.ratio, 4),
                interval=(round(metric.b_over_a.low, 4), round(metric.b_over_a.high, 4)),
            )
            for metric in comparison.metrics
        ),
        evidence=evidence,
    )


def text(comparison: BenchComparison) -> str:
    """A comparison as a Markdown table and a sentence."""
    rules = comparison.rules
    rows = [
        f"| Figure | A | B | B/A | Interval ({rules.confidence:.0%}) |",
        "|---|---|---|---|---|",
        *map(_row, comparison.metrics),
    ]
    sentence = (
        f"{_SENTENCES[comparison.conclusion]}: {rules.metric} decides, with a margin of "
        f"{rules.margin_percent:g} %, after {comparison.blocks} blocks of 4 runs "
        f"({rules.level.prompts} requests at {rules.level.concurrency} at a time each)."
    )
    sides = f"A: {comparison.a.label}\nB: {comparison.b.label}"
    return "\n\n".join((sides, "\n".join(rows), sentence))


def _row(metric: MetricRatio) -> str:
    ratio = metric.b_over_a
    return (
        f"| {metric.name} | {metric.a:.2f} | {metric.b:.2f} | {ratio.ratio:.3f} | "
        f"{ratio.low:.3f} to {ratio.high:.3f} |"
    )
