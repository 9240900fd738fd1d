"""Runs as rows: which ones, how they ended, how far their releases came."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from relforge.events import ReleaseState
from relforge.evidence.reading_runs import list_runs
from relforge.evidence.runs import Run
from relforge.frozen import Frozen


class RunRow(Frozen):
    """One run. ``counts`` has how many of its releases are in which state; times are seconds since
    1970, UTC, and ``seconds`` is up to now where the run is at work."""

    id: str
    state: ReleaseState
    command: str
    started_s: float
    ended_s: float | None
    seconds: float
    attempt: int
    exit_code: int | None
    error: str | None
    releases: tuple[str, ...]
    counts: dict[ReleaseState, int]

    @classmethod
    def of(cls, run: Run, now_s: float) -> RunRow:
        return cls(
            id=run.id,
            state=run.state,
            command=run.command,
            started_s=run.started_s,
            ended_s=run.ended_s,
            seconds=round((run.ended_s or now_s) - run.started_s, 3),
            attempt=run.attempt,
            exit_code=run.exit_code,
            error=run.error,
            releases=tuple(one.release for one in run.releases),
            counts=dict(Counter(one.state for one in run.releases)),
        )


class RunsOutput(Frozen):
    """What ``relforge runs list --json`` prints; stable. Newest first."""

    runs: tuple[RunRow, ...]


def rows(
    home: Path,
    *,
    releases: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    since_s: float | None = None,
) -> Iterator[RunRow]:
    """The runs that have one of the releases (names, or patterns as of a shell), are in one of the
    states, and began at ``since_s`` or later; newest first."""
    now_s = time.time()
    for run in list_runs(home):
        if since_s is not None and run.started_s < since_s:
            continue
        if states and run.state not in states:
            continue
        names = [one.release for one in run.releases]
        if releases and not any(fnmatch.filter(names, pattern) for pattern in releases):
            continue
        yield RunRow.of(run, now_s)
