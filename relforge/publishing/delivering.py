"""Sends one release to several targets, in an order that leaves no lie behind.

Candidates first, everywhere; only when all are there, promotions, images before the pages that
name them. The first failure stops what comes after it, and the report says of every target what is
done and what is not; the same command completes it. Withdrawals go the other way round, and none
stops another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relforge import redact
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.files import cannot_write, held_lock
from relforge.frozen import Frozen, sha256_hex
from relforge.publishing.journal import Journal
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Doing, Step, Target, TargetPlan

State = Literal["done", "nothing", "planned", "failed", "undone", "not-done"]


class TargetOutcome(Frozen):
    """What a step came to at one target.

    ``nothing``: all was there. ``planned``: a dry run. ``undone``: done, then taken back because
    another target failed. ``not-done``: not tried, because something before it failed.
    """

    target: str
    step: Step
    place: str
    state: State
    plan: TargetPlan | None = None
    delivery: Delivery | None = None
    error: str | None = None
    where: str | None = None
    hint: str | None = None
    exit_code: int = 0


class DeliveryReport(Frozen):
    """What publishing one release came to; stable (``relforge promote --json``)."""

    release: str
    image_digest: str
    outcomes: tuple[TargetOutcome, ...]

    @property
    def exit_code(self) -> int:
        """That of the first failure."""
        return next((one.exit_code for one in self.outcomes if one.exit_code), 0)


class NotSent(Frozen):
    """A folder that could not be read."""

    folder: str
    error: str
    exit_code: int


class DeliveriesOutput(Frozen):
    """What ``relforge promote --json``, ``withdraw --json`` and ``publish --folder --json`` print;
    stable."""

    releases: tuple[DeliveryReport, ...]
    not_sent: tuple[NotSent, ...] = ()


@dataclass(frozen=True)
class Delivering:
    """How to send: where this host keeps its notes and locks, and the channels.

    ``gate`` is asked before a step reaches places that people look at; it raises RelforgeError
    (GATE) with what is missing.
    """

    journal: Journal
    gate: Callable[[Target, Step], None]
    doing: Doing = field(default_factory=Doing)
    rollback: bool = False


def preview(
    published: Published,
    targets: Sequence[Target],
    steps: Sequence[Step],
    gate: Callable[[Target, Step], None],
) -> DeliveryReport:
    """What would change, target by target, or what the gate would say; changes nothing."""
    found = []
    for step in steps:
        for target in targets:
            place = target.place(published)
            try:
                gate(target, step)
                plan = target.plan(published, step)
            except (RelforgeError, OSError) as failed:
                found.append(_failed(target, step, place, failed))
                continue
            state: State = "nothing" if plan.nothing else "planned"
            found.append(
                TargetOutcome(
                    target=target.name, step=step, place=plan.place, state=state, plan=plan
                )
            )
    return _report(published, found)


def deliver(
    published: Published,
    targets: Sequence[Target],
    steps: Sequence[Step],
    how: Delivering,
    on_end: Callable[[DeliveryReport], None] = lambda _report: None,
) -> DeliveryReport:
    """Takes the steps at every target; never raises for what a target refuses.

    Raises Cancelled. ``on_end`` gets the report however it ends; what was done by then is in the
    journal, too, and the next call goes on from there.
    """
    found: list[TargetOutcome] = []
    try:
        _steps(published, targets, steps, how, found)
    finally:
        report = _report(published, found)
        on_end(report)
    return report


def _steps(
    published: Published,
    targets: Sequence[Target],
    steps: Sequence[Step],
    how: Delivering,
    found: list[TargetOutcome],
) -> None:
    """Adds an outcome to ``found`` for each target and step."""
    if "promote" in steps and not _all_may_pass(published, targets, steps, how, found):
        return
    for step in steps:
        withdrawing = step == "withdraw"
        stopped = False
        for target in reversed(targets) if withdrawing else targets:
            place = target.place(published)
            if stopped:
                found.append(_not_done(target, step, place))
                continue
            try:
                how.gate(target, step)
                outcome = _one(published, target, step, place, how)
            except (RelforgeError, OSError) as failed:
                outcome = _failed(target, step, place, failed)
                stopped = not withdrawing
            except (Cancelled, KeyboardInterrupt):
                found.append(_interrupted(target, step, place))
                raise
            found.append(outcome)
        if stopped:
            later = steps[list(steps).index(step) + 1 :]
            found += [_not_done(t, s, t.place(published)) for s in later for t in targets]
            _undo(published, targets, found, how)
            return


def _one(
    published: Published, target: Target, step: Step, place: str, how: Delivering
) -> TargetOutcome:
    with _lock(published, target, step, place, how):
        how.journal.begin(published, target.name, step, place)
        delivery = target.apply(published, step, how.doing)
        how.journal.end(published, delivery, how.doing.reason)
    changed = any(change.action != "same" for change in delivery.changes)
    return TargetOutcome(
        target=target.name,
        step=step,
        place=delivery.place,
        state="done" if changed else "nothing",
        delivery=delivery,
    )


def _all_may_pass(
    published: Published,
    targets: Sequence[Target],
    steps: Sequence[Step],
    how: Delivering,
    found: list[TargetOutcome],
) -> bool:
    """Asks the gate about every promotion before a byte is sent anywhere, not even to wait."""
    refusals: dict[str, TargetOutcome] = {}
    for target in targets:
        try:
            how.gate(target, "promote")
        except (RelforgeError, OSError) as failed:
            refusals[target.name] = _failed(target, "promote", target.place(published), failed)
    if refusals:
        for step in steps:
            for target in targets:
                refused = refusals.get(target.name) if step == "promote" else None
                found.append(refused or _not_done(target, step, target.place(published)))
    return not refusals


@contextmanager
def _lock(
    published: Published, target: Target, step: Step, place: str, how: Delivering
) -> Iterator[None]:
    """One publisher at a place at a time, of those that share a home."""
    path = how.journal.folder / "locks" / sha256_hex(place.encode())[:32]
    purpose = f"{step} of {published.release} at {target.name}"
    with held_lock(path, purpose=purpose, on_wait=how.doing.line, cancel=how.doing.cancel):
        yield


def _undo(
    published: Published, targets: Sequence[Target], found: list[TargetOutcome], how: Delivering
) -> None:
    """What this run did, last first, where the user wants all targets or none."""
    by_name = {target.name: target for target in targets}
    for index in reversed(range(len(found))) if how.rollback else ():
        outcome = found[index]
        if outcome.state != "done" or outcome.delivery is None:
            continue
        target = by_name[outcome.target]
        try:
            with _lock(published, target, outcome.step, target.place(published), how):
                target.undo(published, outcome.delivery, how.doing)
                how.journal.undo(published, outcome.delivery)
            gone = outcome.delivery.model_copy(update={"references": ()})
            found[index] = outcome.model_copy(update={"state": "undone", "delivery": gone})
        except RelforgeError as failed:
            found[index] = outcome.model_copy(
                update={"error": f"could not be taken back: {failed.what}", "hint": failed.hint}
            )


def _not_done(target: Target, step: Step, place: str) -> TargetOutcome:
    return TargetOutcome(target=target.name, step=step, place=place, state="not-done")


def _interrupted(target: Target, step: Step, place: str) -> TargetOutcome:
    return TargetOutcome(
        target=target.name,
        step=step,
        place=place,
        state="failed",
        error="interrupted; nothing half is seen, and the same command goes on from there",
        exit_code=int(ExitCode.INTERRUPTED),
    )


def _failed(
    target: Target, step: Step, place: str, failed: RelforgeError | OSError
) -> TargetOutcome:
    if isinstance(failed, OSError):
        failed = cannot_write(Path(str(failed.filename or place)), failed)
    return TargetOutcome(
        target=target.name,
        step=step,
        place=place,
        state="failed",
        error=redact.text(": ".join(part for part in (failed.what, failed.why) if part)),
        where=failed.where and redact.text(failed.where),
        hint=failed.hint and redact.text(failed.hint),
        exit_code=int(failed.code),
    )


def _report(published: Published, outcomes: Sequence[TargetOutcome]) -> DeliveryReport:
    return DeliveryReport(
        release=published.release,
        image_digest=published.image_digest,
        outcomes=tuple(outcomes),
    )


def require_targets(names: Sequence[str], known: Sequence[str], where: Path | None) -> None:
    """Raises RelforgeError (USAGE) where a name is no target of the site configuration."""
    for name in names:
        if name not in known:
            raise RelforgeError(
                f"there is no target {name!r}",
                code=ExitCode.USAGE,
                where=str(where) if where else None,
                why="the site configuration's publish.targets names "
                + (", ".join(sorted(known)) or "none"),
                hint="name one of them, or add it there (docs/publishing.md)",
            )
