"""What publishing did, would do, or could not do, as a person reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from relforge.publishing.delivering import DeliveryReport, TargetOutcome
from relforge.publishing.target import Change
from relforge.ui.text import size

_STEPS = {"candidate": "candidate", "promote": "promotion", "withdraw": "withdrawal"}
_STATES = {
    "done": "done",
    "nothing": "nothing to do",
    "planned": "would change",
    "failed": "FAILED",
    "undone": "done, taken back",
    "not-done": "not done: something before it failed",
}
_SHOWN = 40


def text(report: DeliveryReport) -> str:
    """A block for each target and step; of a dry run with every change."""
    return "".join(_outcome(one) for one in report.outcomes)


def _outcome(one: TargetOutcome) -> str:
    state = _STATES[one.state]
    if one.step == "withdraw" and one.state == "nothing":
        state = "nothing of this image is there, or it was taken back before"
    head = f"{one.target}: {_STEPS[one.step]} at {one.place}: {state}\n"
    rows = []
    changes = one.plan.changes if one.plan else one.delivery.changes if one.delivery else ()
    if one.state == "planned":
        rows += _changes(changes)
        rows.append(f"to send: {size(one.plan.bytes if one.plan else 0)}")
    elif one.delivery is not None:
        rows.append(f"sent {size(one.delivery.sent_bytes)}; {_counted(changes)}")
        rows += list(one.delivery.references)
    if one.error:
        rows.append(f"why:   {one.error}")
    if one.where:
        rows.append(f"where: {one.where}")
    if one.hint:
        rows.append(f"next:  {one.hint}")
    return head + "".join(f"  {line}\n" for row in rows for line in row.splitlines())


def _changes(changes: Sequence[Change]) -> list[str]:
    real = [change for change in changes if change.action != "same"]
    # Statements and evidence come by the dozen, and their names are digests.
    attached = [change for change in real if change.kind == "attachment"]
    shown = [change for change in real if change.kind != "attachment"]
    rows = [_change(change) for change in shown[:_SHOWN]]
    if attached:
        sent = size(sum(change.bytes for change in attached))
        rows.append(
            f"add      {len(attached)} pieces of statements, bills of materials, evidence ({sent})"
        )
    if len(shown) > _SHOWN:
        rows.append(f"... and {len(shown) - _SHOWN} more (--json has all)")
    if same := len(changes) - len(real):
        rows.append(f"{'same':<8} {same} of {len(changes)} are there already")
    return rows


def _change(change: Change) -> str:
    about = f" ({size(change.bytes)})" if change.bytes else ""
    moved = ""
    if change.before and change.after:
        moved = f": {_short(change.before)} -> {_short(change.after)}"
    elif change.after and change.after != change.name:
        moved = f": {_short(change.after)}"
    return f"{change.action:<8} {change.kind} {_short(change.name)}{moved}{about}"


def _short(name: str) -> str:
    return name[:19] if name.startswith("sha256:") else name


def _counted(changes: Sequence[Change]) -> str:
    counts = Counter[str](change.action for change in changes)
    words = {"add": "added", "replace": "replaced", "remove": "removed", "same": "there already"}
    return (
        ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key]) or "none"
    )
