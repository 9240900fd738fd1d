"""evalscope: ``reports/<model>/<dataset>.json`` (evalscope/report/report.py).

Two shapes: a metric has a ``name`` (``mean_acc``) up to 1.10, since then an ``identity`` with the
range of its values, and ``execution_summary`` says how many questions have no answer. Scores are
rounded to four digits, those of subsets before they are averaged.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from relforge.evaluation.importing.reading import Foreign, Wanted, fraction, refused, validated
from relforge.evaluation.statistics.figures import Figure
from relforge.manifest.common import PositiveInt
from relforge.manifest.reference import AskedWith

_DIGITS = 4


class _Subset(Foreign):
    is_aggregate: bool = False


class _Category(Foreign):
    subsets: list[_Subset] = []


class _Identity(Foreign):
    name: str
    aggregation: str
    dimensions: dict[str, Any] = {}


class _Range(Foreign):
    max: float | None = None


class _Semantics(Foreign):
    value_range: _Range | None = None


class _Metric(Foreign):
    name: str | None = None
    identity: _Identity | None = None
    score: Any
    num: PositiveInt
    categories: list[_Category] = []
    semantics: _Semantics | None = None


class _Execution(Foreign):
    requested: int
    errored: int
    incomplete: bool


class _Report(Foreign):
    dataset_name: str
    metrics: list[_Metric]
    execution_summary: _Execution | None = None


def figures(content: Any, path: Path, wanted: Wanted) -> tuple[Figure, ...]:
    """The figures of one dataset's report.

    Raises RelforgeError (USAGE) at the line of what is not as evalscope writes it, and for a run
    that left questions without an answer.
    """
    read = validated(_Report, content, path, "evalscope")
    if not wanted(read.dataset_name):
        return ()
    summary = read.execution_summary
    if summary is not None and (summary.incomplete or summary.errored):
        raise refused(
            path,
            ("execution_summary",),
            f"{read.dataset_name}: the run is incomplete",
            f"{summary.errored} of {summary.requested} questions ended in an error",
        )
    found = []
    for number, metric in enumerate(read.metrics):
        keys = ("metrics", number, "score")
        share = fraction(metric.score, path, keys, digits=_DIGITS)
        largest = metric.semantics and metric.semantics.value_range
        if largest and largest.max == 100:
            share /= 100
        subsets = [s for c in metric.categories for s in c.subsets if not s.is_aggregate]
        # Rounded once; of several subsets each, then their categories, then all together.
        roundings = 1 if len(subsets) < 2 else 3
        found.append(
            Figure(
                task=read.dataset_name,
                metric=_name(metric),
                percent=share,
                off_by=roundings * Decimal(50).scaleb(-_DIGITS),
                n=metric.num,
                settings=AskedWith(),
                where=str(path),
            )
        )
    return tuple(found)


def _name(metric: _Metric) -> str:
    identity = metric.identity
    if identity is None:
        return metric.name or "score"
    if identity.aggregation == "pass_at_k" and identity.dimensions.get("k") == 1:
        return "pass@1"
    if identity.aggregation == "mean" and not identity.dimensions:
        return "mean_acc" if identity.name == "accuracy" else identity.name
    more = [identity.aggregation, *(f"{k}={v}" for k, v in sorted(identity.dimensions.items()))]
    return f"{identity.name} ({', '.join(more)})"
