"""What a test of a card found, step by step."""

from __future__ import annotations

from typing import Literal

from relforge.frozen import Frozen

Verdict = Literal["pass", "fail", "not-run"]


class StepReport(Frozen):
    """One step. ``line``: of its first command in the card. ``seconds``: wall time, waits for the
    server included."""

    number: int
    line: int
    name: str
    """What the card calls it in its marker; else the heading above it."""
    profile: str | None
    commands: str
    verdict: Verdict
    reason: str
    seconds: float
    expected: str | None
    got: str | None
    """What was printed: the end of it, on failure also of stderr."""
    images: tuple[str, ...] = ()
    """Ids of the images that the containers of this step were made of."""


class CardReport(Frozen):
    """``verdict`` is ``pass`` when at least one step ran a program and none failed."""

    card: str
    image: str | None
    """The digest that was asked for."""
    verdict: Verdict
    reason: str
    passed: int
    failed: int
    not_run: int
    seconds: float
    altered: tuple[str, ...]
    """Files beside the card that its commands changed."""
    steps: tuple[StepReport, ...]


def report(
    *,
    card: str,
    image: str | None,
    seconds: float,
    altered: tuple[str, ...],
    found: tuple[StepReport, ...],
    ran_a_program: bool,
) -> CardReport:
    """The verdict on the whole card."""
    counts = {verdict: sum(s.verdict == verdict for s in found) for verdict in _VERDICTS}
    verdict: Verdict = "pass"
    reason = ""
    if counts["fail"]:
        first = next(step for step in found if step.verdict == "fail")
        verdict, reason = "fail", f"step {first.number} (line {first.line}): {first.reason}"
    elif altered:
        verdict = "fail"
        reason = f"its commands changed {', '.join(altered[:5])} in the folder of the card"
    elif not found:
        verdict, reason = "not-run", "the card has no commands"
    elif not ran_a_program:
        verdict, reason = "not-run", "no step that runs a program could be run here"
    return CardReport(
        card=card,
        image=image,
        verdict=verdict,
        reason=reason,
        passed=counts["pass"],
        failed=counts["fail"],
        not_run=counts["not-run"],
        seconds=round(seconds, 1),
        altered=altered,
        steps=found,
    )


def text(found: CardReport) -> str:
    """The report for a person."""
    lines = [step_text(step) for step in found.steps]
    counted = f"{found.passed} passed, {found.failed} failed, {found.not_run} not run"
    ending = f" ({found.reason})" if found.reason else ""
    return "\n".join([*lines, "", f"{found.card}: {found.verdict}: {counted}{ending}"])


def step_text(step: StepReport) -> str:
    """One step in a line, and more where it failed."""
    profile = f" [{step.profile}]" if step.profile else ""
    head = f"{step.verdict:<8} line {step.line}: {step.name}{profile} ({step.seconds:.1f} s)"
    if not step.reason:
        return head
    first, *more = step.reason.split("\n")
    return "\n".join([f"{head}: {first}", *(f"         {line}" for line in more)])


_VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "not-run")
