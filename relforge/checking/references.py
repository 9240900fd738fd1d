"""What contradicts itself in references: their figures, and the evidence that they name."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from relforge.checking.rules import Contradiction
from relforge.errors import RelforgeError
from relforge.evaluation.evidence import load_reference
from relforge.evaluation.interface import EvaluationResult
from relforge.evaluation.statistics.figures import Figure, possible_k, printed, right_answers
from relforge.manifest.model import Model, Reference
from relforge.manifest.places import Keys
from relforge.manifest.project import Project
from relforge.manifest.reference import ReferenceFigure, ReferenceFigures
from relforge.manifest.release import Release
from relforge.manifest.weights import Reported


def of_reference(reference: ReferenceFigures, model: Model | None) -> Iterator[Contradiction]:
    """Figures that cannot be, and evidence that is not the one the model's gate compares with."""
    for number, figure in enumerate(reference.figures):
        keys = ("figures", number)
        yield from _impossible(figure, keys)
        pinned = None if model is None else model.reference
        if pinned is None or figure.evidence is None or figure.evidence.path != pinned.path:
            continue
        if figure.evidence != pinned:
            yield Contradiction(
                (*keys, "evidence"),
                f"the evidence {pinned.path} is another one than that of {reference.model}",
                f"the model pins task {pinned.task}, sha256 {pinned.sha256}",
                "measure both anew, or correct the one that was not",
            )


def of_reported(release: Release) -> Iterator[Contradiction]:
    """What is reported of a release and cannot be."""
    for number, figure in enumerate(release.reported):
        yield from _impossible(figure, ("reported", number))


def _impossible(figure: ReferenceFigure | Reported, keys: Keys) -> Iterator[Contradiction]:
    if figure.n is None:
        return
    percent, off_by = printed(str(figure.value))
    told = Figure(
        task=figure.task, metric=figure.metric, percent=percent, off_by=off_by, n=figure.n
    )
    try:
        right_answers(told)
    except RelforgeError as error:
        yield Contradiction(
            (*keys, "value"),
            error.what,
            "what is compared with it would be compared with nothing",
            error.hint or "correct the figure",
        )


def evidence_of(project: Project, pinned: Reference) -> EvaluationResult:
    """The evidence of a measured figure. Raises RelforgeError (USAGE, SOURCE)."""
    return load_reference(project.path(pinned.path), sha256=pinned.sha256, task=pinned.task)


def of_evidence(
    reference: ReferenceFigures, number: int, evidence: EvaluationResult
) -> Iterator[Contradiction]:
    """What a measured figure says that its evidence does not."""
    figure, asked = reference.figures[number], evidence.settings
    settings = figure.settings
    percent, off_by = printed(str(figure.value))
    right = possible_k(percent, off_by, evidence.n) == evidence.k
    rows: tuple[tuple[str, object, object], ...] = (
        ("n", figure.n, evidence.n),
        ("value", percent, percent if right else _percent(evidence, off_by)),
        ("settings.shots", settings.shots, asked.shots),
        ("settings.temperature", settings.temperature, asked.temperature),
        ("settings.max_tokens", settings.max_tokens, asked.max_tokens),
        ("settings.seed", settings.seed, asked.seed),
        ("settings.prompt", settings.prompt, asked.prompt_template),
    )
    at = ("figures", number)
    for name, told, found in rows:
        if told is not None and told != found:
            yield _differs((*at, *name.split(".")), name, told, found)
    if reference.tool != asked.tool:
        yield _differs(("tool",), "tool", reference.tool, asked.tool)
    if reference.tool_version != asked.tool_version:
        yield _differs(
            ("tool_version",), "tool_version", reference.tool_version, asked.tool_version
        )


def _percent(evidence: EvaluationResult, off_by: Decimal) -> Decimal:
    return (Decimal(100 * evidence.k) / evidence.n).quantize(off_by * 2)


def _differs(keys: tuple[str | int, ...], name: str, told: object, found: object) -> Contradiction:
    return Contradiction(
        keys,
        f"{name} is {told}, and its evidence says {found}",
        "a measured figure is what its evidence records",
        "correct it, or measure anew and pin the new evidence",
    )
