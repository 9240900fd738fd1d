"""Figures of several tasks, from wherever they are: matched by task, judged singly and together.

What has no counterpart is refused, not left out: a task that crashed would vanish otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.statistics.datasets import same_task
from relforge.evaluation.statistics.figures import (
    Figure,
    FigureComparison,
    figure_of_reference,
    is_share,
    printed,
)
from relforge.evaluation.statistics.judging import Overall, overall
from relforge.manifest.reference import ReferenceFigures
from relforge.manifest.release import Release
from relforge.manifest.weights import Reported


@dataclass(frozen=True)
class Compared:
    """Each task's comparison, and what they say together."""

    rows: tuple[FigureComparison, ...]
    overall: Overall


def together(rows: Iterable[FigureComparison]) -> Compared:
    """Several comparisons as one. Raises ValueError for none."""
    listed = tuple(rows)
    return Compared(listed, overall(listed))


def of_reference(reference: ReferenceFigures) -> tuple[Figure, ...]:
    """The figures of a reference of the project."""
    return tuple(figure_of_reference(reference.name, one) for one in reference.figures)


def of_release(release: Release) -> tuple[Figure, ...]:
    """The figures that others reported of a release. Raises RelforgeError (USAGE) for none."""
    if not release.reported:
        raise RelforgeError(
            f"nothing is reported of {release.name}",
            code=ExitCode.USAGE,
            why="its manifest has no `reported`",
            hint="name a file with its results",
        )
    return tuple(_reported(one, f"release {release.name}") for one in release.reported)


def matched(
    reference: Sequence[Figure],
    result: Sequence[Figure],
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
) -> list[tuple[Figure, Figure]]:
    """Each figure of a reference with the result's of the same task; with ``tasks``, of these.

    Where a task has several metrics, the equal ones go together; ``metric`` keeps one name of them.

    Raises RelforgeError (USAGE) for a task that only the reference has, for one whose metrics do
    not tell which belong together, and when nothing is left.
    """
    sides = [_kept(figures, tasks, metric) for figures in (reference, result)]
    pairs = []
    for one in sides[0]:
        found = [other for other in sides[1] if same_task(one.task, other.task)]
        if not found:
            raise _refused(f"the result has no {one.task}", "a task that crashed has no figure")
        equal = [other for other in found if other.metric.casefold() == one.metric.casefold()]
        alone = sum(same_task(one.task, other.task) for other in sides[0]) == 1
        if len(equal) == 1:
            pairs.append((one, equal[0]))
        elif len(found) == 1 and alone:
            pairs.append((one, found[0]))
        else:
            names = ", ".join(other.metric for other in found)
            raise _refused(
                f"{one.task} has several figures in the result, none of them the reference's",
                f"the reference has {one.metric}, the result {names}",
                "say which is meant: --metric NAME",
            )
    if not pairs:
        raise _refused("there is nothing to compare", "no figure is a share of right answers")
    return pairs


def _kept(figures: Sequence[Figure], tasks: Sequence[str], metric: str | None) -> list[Figure]:
    """What is a share of right answers, of these tasks. Of a task several metrics may be named."""
    chosen = [
        one for one in figures if not tasks or any(same_task(one.task, name) for name in tasks)
    ]
    for name in tasks:
        if not any(same_task(one.task, name) for one in chosen):
            raise _refused(f"there is no figure of {name}", "--task names it")
    shares = [one for one in chosen if is_share(one.metric)]
    if metric is None:
        return shares
    # A side that has no choice need not call its metric by the same name.
    named = [one for one in shares if one.metric.casefold() == metric.casefold()]
    others = [one for one in shares if not any(same_task(one.task, other.task) for other in named)]
    return [*named, *others]


def _reported(one: Reported, where: str) -> Figure:
    percent, off_by = printed(str(one.value))
    return Figure(
        task=one.task,
        metric=one.metric,
        percent=percent,
        off_by=off_by,
        n=one.n,
        where=where,
    )


def _refused(what: str, why: str, hint: str | None = None) -> RelforgeError:
    return RelforgeError(
        what,
        code=ExitCode.USAGE,
        why=why,
        hint=hint or "name the tasks that both have: --task NAME",
    )
