"""Reported figures beside the references that were published with them."""

from __future__ import annotations

from relforge.card.model import ReportedRow, ReportedTable
from relforge.card.parts.material import Material
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.statistics.datasets import same_task
from relforge.evaluation.statistics.figures import (
    Figure,
    compare_figures,
    figure_of_reference,
    printed,
    sized,
)
from relforge.manifest.model import Model
from relforge.manifest.project import Project
from relforge.manifest.reference import ReferenceFigure, ReferenceFigures
from relforge.manifest.weights import Reported

# The interval of the difference does not depend on it; no verdict is given on reported figures.
_ANY_MARGIN = 5.0


def references_of(project: Project, model: Model) -> tuple[ReferenceFigures, ...]:
    """Reported references of a model and of the project's model that it was made from."""
    reported = [one for one in project.references if one.status == "reported"]
    own = [one for one in reported if one.model == model.name]
    if model.base_model is None:
        return tuple(own)
    return tuple(
        own
        + [
            one
            for one in reported
            if one not in own and _repository(project.model(one.model)) == model.base_model
        ]
    )


def _repository(model: Model) -> str | None:
    return getattr(model.weights, "repository", None)


def reported_tables(material: Material) -> tuple[ReportedTable, ...]:
    """A table for each source of the release's reported figures."""
    tables = []
    by_source: dict[str, list[Reported]] = {}
    for one in material.release.reported:
        # `DOCUMENT, as 23/30`: how one figure is printed there makes it no other document.
        by_source.setdefault(one.source.partition(", as ")[0], []).append(one)
    for source, found in by_source.items():
        rows = tuple(found)
        reference = _fitting(material.references, rows)
        tables.append(
            ReportedTable(
                source=source,
                reference=reference.title if reference else None,
                reference_source=reference.source if reference else None,
                reference_precision=reference.precision if reference else None,
                reference_model=reference.model
                if reference is not None and reference.model != material.model.name
                else None,
                precision=material.model.precision,
                rows=tuple(_row(row, reference) for row in rows),
            )
        )
    return tuple(tables)


def _fitting(
    references: tuple[ReferenceFigures, ...], rows: tuple[Reported, ...]
) -> ReferenceFigures | None:
    """The first reference that has all of the tasks: the model's own before its base's.

    One that has only some of them was made for other figures than these.
    """
    return next((r for r in references if all(_of(r, row) is not None for row in rows)), None)


def _of(reference: ReferenceFigures | None, row: Reported) -> ReferenceFigure | None:
    figures = reference.figures if reference else ()
    return next((f for f in figures if same_task(f.task, row.task)), None)


def _row(row: Reported, reference: ReferenceFigures | None) -> ReportedRow:
    percent, off_by = printed(str(row.value))
    result = Figure(task=row.task, metric=row.metric, percent=percent, off_by=off_by, n=row.n)
    theirs = _of(reference, row)
    n, assumed = row.n, False
    try:
        known = sized(result)
        n, assumed = known.n, known.assumed
    except RelforgeError:
        pass  # How many questions nobody says: the row goes without.
    difference, interval = None, None
    if theirs is not None and reference is not None:
        difference = round(row.value - theirs.value, 2)
        try:
            compared = compare_figures(
                figure_of_reference(reference.name, theirs), result, margin_points=_ANY_MARGIN
            )
            interval = compared.interval_points
        except RelforgeError as error:
            if error.code is ExitCode.ENVIRONMENT:
                # What a card says must not depend on what is installed.
                raise RelforgeError(
                    "a card with reported figures needs statistics for their intervals",
                    code=error.code,
                    where=f"{row.task} of {row.source}",
                    why=error.why or error.what,
                    hint=error.hint,
                ) from error
            # Else it is no share of right answers, or not of that many questions.
    return ReportedRow(
        task=row.task,
        metric=row.metric,
        reference_percent=theirs.value if theirs else None,
        result_percent=row.value,
        n=n,
        assumed=assumed,
        difference_points=difference,
        interval_points=interval,
    )
