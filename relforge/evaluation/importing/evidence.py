"""relforge's own evidence, where the other side has no answers to pair its own with."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from relforge.evaluation.evidence import load_reference
from relforge.evaluation.gate import asked_with
from relforge.evaluation.importing.reading import Wanted
from relforge.evaluation.statistics.figures import Figure

_DIGITS = Decimal("1e-8")


def figures(path: Path, wanted: Wanted) -> tuple[Figure, ...]:
    """The one figure of an evidence file. Raises RelforgeError (SOURCE) where it is not whole."""
    evaluation = load_reference(path)
    settings = evaluation.settings
    if not wanted(settings.task):
        return ()
    return (
        Figure(
            task=settings.task,
            metric=settings.metric,
            percent=(Decimal(100 * evaluation.k) / evaluation.n).quantize(_DIGITS),
            off_by=_DIGITS,
            n=evaluation.n,
            settings=asked_with(settings),
            where=str(path),
        ),
    )
