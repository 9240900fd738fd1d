"""What ``relforge check`` says: faults with their places, and looks that could not be taken."""

from __future__ import annotations

from relforge.frozen import Frozen


class Fault(Frozen):
    """One thing that is wrong, with its place."""

    subject: str
    where: str | None
    message: str
    hint: str | None


class NotRun(Frozen):
    """A look that could not be taken here; never as good as one that found nothing."""

    look: str
    reason: str
    remedy: str | None


class Open(Frozen):
    """Something that nobody resolved yet: no fault, and nothing is built before it is."""

    subject: str
    where: str | None
    what: str
    remedy: str


class CheckReport(Frozen):
    """What was checked, what is wrong with it, what is open, and what was not looked at."""

    checked: tuple[str, ...]
    faults: tuple[Fault, ...]
    open: tuple[Open, ...] = ()
    not_run: tuple[NotRun, ...] = ()
