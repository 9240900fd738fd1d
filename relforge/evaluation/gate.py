"""The gate of a release: every task against its reference, and what they say together.

A measured reference has every answer: it is compared in pairs, and it alone can make a gate pass.
A reported one is a figure that somebody published: a release that falls below it by more than the
margin fails, one that does not has proved nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.compare import compare, refuse_unlike
from relforge.evaluation.figures import Figures, said
from relforge.evaluation.interface import Evaluated, EvaluationResult, EvaluationSettings, Prepared
from relforge.evaluation.oddities import oddities
from relforge.evaluation.statistics.figures import Figure, compare_figures, figure_of_reference
from relforge.evaluation.statistics.judging import Conclusion, Judgement, overall
from relforge.events import Verdict
from relforge.frozen import Frozen
from relforge.manifest.reference import AskedWith, ReferenceFigure

_EXACT = Decimal("1e-8")
_VERDICTS: dict[Conclusion, Verdict] = {
    "non-inferior": "pass",
    "inferior": "fail",
    "inconclusive": "inconclusive",
}


class Gate(Frozen):
    """What all tasks say together."""

    tasks: tuple[Figures, ...]
    conclusion: Conclusion
    verdict: Verdict
    reason: str


class Measured(Frozen):
    """A reference with every answer. ``name`` is its file."""

    name: str
    result: EvaluationResult

    def refuse_unlike(self, prepared: Prepared) -> None:
        """Raises RelforgeError (GATE) before anything is asked that could not be compared."""
        self.result.only(question.id for question in prepared.questions)
        refuse_unlike(self.result.settings, prepared.settings)


class Reported(Frozen):
    """A published figure. ``name`` is that of its reference."""

    name: str
    figure: ReferenceFigure

    def refuse_unlike(self, prepared: Prepared) -> None:
        """Raises RelforgeError (GATE) before anything is asked that could not be compared."""
        figure, asked = self.figure, prepared.settings
        where = f"reference {self.name}, {figure.task}"
        if unlike := figure.settings.differences(asked_with(asked)):
            raise _refused("were made with other settings", "; ".join(unlike), where)
        if figure.n is not None and figure.n != asked.n:
            raise _refused("have unequal n", f"reference {figure.n}, result {asked.n}", where)


class Compared(Frozen):
    """A task before Holm's correction."""

    judged: Judgement
    evaluated: Evaluated
    basis: Literal["measured", "reported"]
    reference: str
    reference_percent: float
    notes: tuple[str, ...]
    reference_correct: int | None = None
    only_reference: int | None = None
    only_result: int | None = None
    groups: int | None = None


def asked_with(settings: EvaluationSettings) -> AskedWith:
    """The settings of an evaluation as references of figures have them."""
    return AskedWith(
        shots=settings.shots,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
        prompt=settings.prompt_template.replace("\n", " "),
    )


def against(
    reference: Measured | Reported, evaluated: Evaluated, *, margin_points: float
) -> Compared:
    """One task compared with its reference.

    Raises RelforgeError (GATE) when they cannot be compared, ENVIRONMENT without extra ``eval``.
    """
    result = evaluated.result
    odd = oddities(result)
    if isinstance(reference, Measured):
        before = reference.result.only(outcome.id for outcome in result.outcomes)
        pairs = compare(before, result, margin_points=margin_points)
        notes = [f"{one} (reference, this image)" for one in before.settings.notes(result.settings)]
        return Compared(
            judged=pairs,
            evaluated=evaluated,
            basis="measured",
            reference=reference.name,
            reference_percent=before.accuracy_percent,
            notes=(*notes, *odd.words(oddities(before))),
            reference_correct=before.k,
            only_reference=pairs.only_reference,
            only_result=pairs.only_result,
            groups=pairs.groups,
        )
    told = figure_of_reference(reference.name, reference.figure)
    exact = (Decimal(100 * result.k) / result.n).quantize(_EXACT)
    own = Figure(
        task=told.task,
        metric="accuracy",
        percent=exact,
        off_by=_EXACT,
        n=result.n,
        settings=asked_with(result.settings),
    )
    try:
        shares = compare_figures(told, own, margin_points=margin_points)
    except RelforgeError as error:
        if error.code is ExitCode.USAGE:
            error.code = ExitCode.GATE
        raise
    assumed = ("the reference does not say its n; it is assumed",) if shares.assumed else ()
    return Compared(
        judged=shares,
        evaluated=evaluated,
        basis="reported",
        reference=reference.name,
        reference_percent=float(told.percent),
        notes=(*assumed, *odd.words()),
    )


def together(compared: Sequence[Compared]) -> Gate:
    """The gate over all tasks.

    It fails when any task is inferior after Holm's correction, and passes when every task with a
    measured reference is non-inferior. Without a measured one it is ``not-run``.
    """
    everything = overall([one.judged for one in compared])
    measured = [one.judged for one in compared if one.basis == "measured"]
    figures = tuple(
        _figures(one, held) for one, held in zip(compared, everything.each, strict=True)
    )
    if everything.conclusion == "inferior":
        conclusion: Conclusion = "inferior"
    else:
        conclusion = (overall(measured) if measured else everything).conclusion
    verdict = _VERDICTS[conclusion]
    if conclusion != "inferior" and not measured:
        verdict = "not-run"
    return Gate(
        tasks=figures, conclusion=conclusion, verdict=verdict, reason=_reason(figures, verdict)
    )


def _figures(compared: Compared, held: Conclusion) -> Figures:
    result = compared.evaluated.result
    settings = result.settings
    metric = settings.metric + (f",{settings.filter}" if settings.filter else "")
    return Figures(
        **{name: getattr(compared.judged, name) for name in Judgement.model_fields},
        task=settings.task,
        metric=metric.removesuffix(",none"),
        n=result.n,
        basis=compared.basis,
        reference=compared.reference,
        reference_percent=compared.reference_percent,
        result_percent=result.accuracy_percent,
        reference_correct=compared.reference_correct,
        result_correct=result.k,
        only_reference=compared.only_reference,
        only_result=compared.only_result,
        groups=compared.groups,
        held=held,
        tool=settings.tool,
        tool_version=settings.tool_version,
        notes=compared.notes,
        odd=oddities(result),
        from_earlier_runs=compared.evaluated.from_earlier,
    )


def _reason(tasks: tuple[Figures, ...], verdict: Verdict) -> str:
    lines = [said(one) if len(tasks) == 1 else f"{one.task}: {said(one)}" for one in tasks]
    if verdict == "not-run":
        lines.append("no task has a measured reference, and reported figures prove nothing")
    lines += [
        note if len(tasks) == 1 else f"{one.task}: {note}" for one in tasks for note in one.notes
    ]
    return "\n".join(lines)


def _refused(what: str, why: str, where: str) -> RelforgeError:
    return RelforgeError(
        f"reference and result cannot be compared: they {what}",
        code=ExitCode.GATE,
        where=where,
        why=why,
        hint="evaluate with the reference's settings, or choose another reference",
    )
