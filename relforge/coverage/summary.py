"""What a release's result keeps of its coverage; all of it is in the evidence (``evidence.py``)."""

from __future__ import annotations

from relforge.frozen import Frozen


class NotRun(Frozen):
    """A part that was not measured, and why."""

    not_run: str


class CountShare(Frozen):
    """Of operators, or of calls. ``with_kernels``: those that gave the device work to do."""

    taken_over: int
    with_kernels: int
    dispatched: int


class TimeShare(Frozen):
    """Of the device's time."""

    taken_over_us: float
    total_us: float


class OwnerShare(Frozen):
    """One owner's part of what was taken over."""

    operators: int
    calls: int
    us: float


class Shares(Frozen):
    """What Triton kernels took over; ``owners``: FlagGems, vLLM, Inductor, other."""

    operators: CountShare
    calls: CountShare
    device_time: TimeShare
    owners: dict[str, OwnerShare] | None = None


class CoverageRow(Frozen):
    """One row of a summary; ``value`` is a figure with its counts, or ``not-run (REASON)``."""

    name: str
    value: str
