"""What a command came to, as a CI shows it: cases in suites. JUnit XML and step summaries are two
ways to write it down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

if TYPE_CHECKING:
    # Each command makes one of these; it need not load the others'.
    from relforge.checking.report import CheckReport
    from relforge.evidence.runs import ReleaseRun, StageEntry
    from relforge.publishing.delivering import DeliveryReport, TargetOutcome
    from relforge.verifying.report import Finding, VerifyReport

State = Literal["passed", "failed", "error", "skipped"]
"""``failed``: a gate or a check said no. ``error``: it could not be done."""


class Case(Frozen):
    """One thing that was done or looked at. ``why`` is one line; ``details`` has as many as it
    needs."""

    name: str
    state: State
    seconds: float = 0.0
    why: str = ""
    details: str = ""


class Suite(Frozen):
    """One release, or one look at a project or a place."""

    name: str
    cases: tuple[Case, ...]
    facts: dict[str, str] = {}
    """What else is worth knowing, such as the digest of the image."""

    @property
    def bad(self) -> tuple[Case, ...]:
        return tuple(one for one in self.cases if one.state in ("failed", "error"))

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.cases)


class Report(Frozen):
    """What the command was, and its suites."""

    title: str
    suites: tuple[Suite, ...]


def of_release(
    entry: ReleaseRun,
    stages: Sequence[str],
    *,
    error: RelforgeError | None = None,
    digest: str | None = None,
    sent: Sequence[TargetOutcome] = (),
) -> Suite:
    """A release in a run: one case for each stage, those that it did not come to among them, and
    one for each target."""
    told = {one.name: one for one in entry.stages}
    details = _details(error) if error is not None else entry.error or ""
    cases = [
        _stage(told[name], details) if name in told else _not_reached(name, entry)
        for name in stages
    ]
    cases += [of_outcome(one) for one in sent]
    if entry.state != "done" and not any(one.state in ("failed", "error") for one in cases):
        # It was not planned, or interrupted, or what follows the last stage went wrong.
        why = error.what if error else (entry.error or entry.state).splitlines()[0]
        cases.append(Case(name="release", state="error", why=why, details=details))
    facts = {"state": entry.state, **({"image": digest} if digest else {})}
    return Suite(name=entry.release, cases=tuple(cases), facts=facts)


def _stage(entry: StageEntry, details: str) -> Case:
    if entry.status == "failed":
        gate = entry.verdict in ("fail", "inconclusive")
        why = f"{entry.verdict}: {entry.detail}" if gate else entry.detail
        state: State = "failed" if gate else "error"
    elif entry.status == "skipped":
        state, why, details = "skipped", entry.detail, ""
    elif entry.verdict == "not-run":
        state, why, details = "skipped", f"not-run: {entry.detail}", ""
    else:
        state, details = "passed", ""
        why = f"{entry.status}: {entry.detail}" if entry.detail else entry.status
    return Case(name=entry.name, state=state, seconds=entry.seconds, why=why, details=details)


def _not_reached(name: str, entry: ReleaseRun) -> Case:
    return Case(name=name, state="skipped", why=f"not reached: the release is {entry.state}")


def of_check(report: CheckReport) -> Suite:
    """A case for everything that was checked, and for each look at the whole."""
    said: dict[str, list[str]] = {name: [] for name in report.checked}
    for fault in report.faults:
        place = f"{fault.where}: " if fault.where else ""
        rows = [f"{place}{fault.message}", *([f"next: {fault.hint}"] if fault.hint else [])]
        said.setdefault(fault.subject, []).append("\n".join(rows))
    still_open: dict[str, list[str]] = {}
    for one in report.open:
        still_open.setdefault(one.subject, []).append(f"{one.what}\nnext: {one.remedy}")
    cases = [_checked(name, found, still_open.get(name, [])) for name, found in said.items()]
    cases += [
        Case(name=one.look, state="skipped", why=f"not-run: {one.reason}", details=one.remedy or "")
        for one in report.not_run
    ]
    return Suite(name="relforge check", cases=tuple(cases))


def _checked(name: str, faults: list[str], still_open: list[str]) -> Case:
    if faults:
        return Case(
            name=name, state="failed", why=faults[0].splitlines()[0], details="\n".join(faults)
        )
    if still_open:
        return Case(
            name=name,
            state="skipped",
            why=f"open: {still_open[0].splitlines()[0]}",
            details="\n".join(still_open),
        )
    return Case(name=name, state="passed")


def of_verify(report: VerifyReport) -> Suite:
    """A case for each check."""
    digest = {"image": report.image_digest} if report.image_digest else {}
    return Suite(
        name=report.release or report.folder,
        cases=tuple(_finding(one) for one in report.checks),
        facts={"verdict": report.verdict, **digest},
    )


def _finding(one: Finding) -> Case:
    states: dict[str, State] = {"pass": "passed", "fail": "failed", "not-run": "skipped"}
    next_ = f"next: {one.next}" if one.next else ""
    details = [one.reason, one.meaning, next_] if one.verdict == "fail" else []
    why = f"not-run: {one.reason}" if one.verdict == "not-run" else one.reason
    return Case(
        name=one.check, state=states[one.verdict], why=why, details="\n".join(filter(None, details))
    )


def of_deliveries(reports: Iterable[DeliveryReport]) -> tuple[Suite, ...]:
    """A suite for each release, a case for each step at each target."""
    return tuple(
        Suite(
            name=report.release,
            cases=tuple(of_outcome(one) for one in report.outcomes),
            facts={"image": report.image_digest},
        )
        for report in reports
    )


def of_outcome(one: TargetOutcome) -> Case:
    """A step at a target; what was not done is skipped, never passed."""
    name, why = f"{one.step} {one.target}", one.error or f"{one.state}: {one.place}"
    if one.state == "failed":
        rows = [
            one.error,
            f"where: {one.where}" if one.where else None,
            f"next: {one.hint}" if one.hint else None,
        ]  # fmt: skip
        return Case(
            name=name, state="error", why=why, details="\n".join(row for row in rows if row)
        )
    done = one.state in ("done", "nothing")
    return Case(name=name, state="passed" if done else "skipped", why=why)


def of_error(title: str, error: BaseException) -> Suite:
    """A command that did not come to what it was asked for."""
    if isinstance(error, RelforgeError):
        why, details = error.what, _details(error)
    else:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        details = why
    gate = isinstance(error, RelforgeError) and error.code == ExitCode.GATE
    case = Case(name=title, state="failed" if gate else "error", why=why, details=details)
    return Suite(name=title, cases=(case,))


def _details(error: RelforgeError) -> str:
    return str(error)
