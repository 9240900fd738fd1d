"""Runs read back: those that ended, are at work, or were killed.

``run.json`` tells of the first; of the others the events tell what it does not have yet.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relforge import owner
from relforge.errors import ExitCode, RelforgeError
from relforge.events import (
    EVENT,
    Event,
    ReleaseFinished,
    ReleaseState,
    RunStarted,
    StageFinished,
    StageStarted,
)
from relforge.evidence.run_folder import EVENTS, OWNER
from relforge.evidence.runs import ReleaseRun, Run, entry_of
from relforge.leftovers import held


def load_run(home: Path, run_id: str) -> Run:
    """One run by its id or a unique beginning of it. Raises RelforgeError (USAGE)."""
    folders = sorted((home / "runs").glob(f"{_plain(run_id)}*/run.json"))
    exact = [path for path in folders if path.parent.name == run_id]
    matches = [run for path in exact or folders if (run := read_run(path.parent)) is not None]
    if len(matches) == 1:
        return matches[0]
    known = [path.parent.name for path in sorted((home / "runs").glob("*/run.json"))]
    # The newest run of several that are as near is most often the one that is meant.
    near = [run.id for run in matches] or difflib.get_close_matches(
        run_id, known[::-1], n=3, cutoff=0.6
    )
    raise RelforgeError(
        f"{'no run' if not matches else 'more than one run'} begins with {run_id!r}",
        code=ExitCode.USAGE,
        where=str(home / "runs"),
        why=f"{'near it are' if not matches else 'these do'}: {', '.join(near[:5])}"
        if near
        else None,
        hint="list them: relforge runs",
    )


def stamp(home: Path, run_id: str) -> tuple[int, ...]:
    """Of the files that ``load_run`` reads: another one once anything was written of the run."""
    folders = sorted((home / "runs").glob(f"{_plain(run_id)}*"))
    found = []
    for path in (folder / name for folder in folders for name in ("run.json", EVENTS, OWNER)):
        with contextlib.suppress(OSError):
            status = path.stat()
            found += [status.st_ino, status.st_mtime_ns, status.st_size]
    return tuple(found)


def _plain(run_id: str) -> str:
    """Without what a pattern or a path would make of it."""
    return "".join(char for char in run_id if char.isalnum() or char in "-_") or "-"


def list_runs(home: Path) -> Iterator[Run]:
    """All runs, newest first; folders without a readable ``run.json`` are passed over.

    A run that could not write its end is ``killed``, with what its event stream tells of it.
    """
    for path in sorted((home / "runs").glob("*/run.json"), reverse=True):
        if (run := read_run(path.parent)) is not None:
            yield run


def read_run(folder: Path) -> Run | None:
    """The run of a folder as it is now; None where there is no readable ``run.json``."""
    path = folder / "run.json"
    run = _read(path)
    if run is not None and run.state == "running" and not owner_gone(folder):
        run = as_told(run, folder)[0]
    elif run is not None and run.state == "running":
        # Read again: it may have written its end just before it went.
        run = _read(path)
        if run is not None and run.state == "running":
            run = _killed(run, folder)
    return run


def _read(path: Path) -> Run | None:
    try:
        return Run.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def owner_gone(folder: Path) -> bool:
    """Whether the process that worked on the run is gone for certain."""
    try:
        named = owner.Owner.parse((folder / OWNER).read_text())
        return named is not None and named.gone and not held(folder / OWNER)
    except OSError:
        return False  # nobody can tell


def _killed(run: Run, folder: Path) -> Run:
    """The run as far as it came; it ended when its last event was written, or later."""
    ended_s = run.started_s
    with contextlib.suppress(OSError):
        ended_s = max(ended_s, (folder / EVENTS).stat().st_mtime)
    run, at_work = as_told(run, folder)
    stages = [f"{stage} of {release}" for release, stage in at_work.items()]
    if len(run.releases) == 1:
        stages = list(at_work.values())
    error = f"killed during {', '.join(stages)}" if stages else "killed between two stages"
    for one in run.releases:
        if one.state in ("waiting", "running"):
            state: ReleaseState = "killed" if one.stages or one.release in at_work else "waiting"
            run = run.with_release(one.model_copy(update={"state": state}))
    return run.model_copy(update={"state": "killed", "ended_s": ended_s, "error": error})


def as_told(run: Run, folder: Path) -> tuple[Run, dict[str, str]]:
    """The run with what its events say, and the stage that each release is at."""
    at_work: dict[str, str] = {}
    told = {one.release: _Told(one) for one in run.releases}

    def of(release: str) -> _Told:
        if release not in told:
            told[release] = _Told(ReleaseRun(release=release))
        return told[release]

    for event in read_events(folder):
        if isinstance(event, RunStarted):
            # Another attempt: what an earlier one was at, or failed with, is over.
            at_work.clear()
            for one in told.values():
                one.again()
        elif isinstance(event, StageStarted):
            at_work[event.release] = event.stage
            of(event.release).changes["state"] = "running"
        elif isinstance(event, StageFinished):
            at_work.pop(event.release, None)
            of(event.release).finished(event)
        elif isinstance(event, ReleaseFinished):
            at_work.pop(event.release, None)
            of(event.release).changes |= event.model_dump(
                include={"state", "exit_code", "error", "next", "seconds"}
            )
    entries = tuple(one.entry for one in told.values())
    return run.model_copy(update={"releases": entries}), at_work


class _Told:
    """What events say of one release; of its stages the last word counts, in its place."""

    def __init__(self, entry: ReleaseRun) -> None:
        self._take(entry)

    def _take(self, entry: ReleaseRun) -> None:
        self._entry = entry
        self.stages = {one.name: one for one in entry.stages}
        self.changes: dict[str, Any] = {}

    def finished(self, event: StageFinished) -> None:
        self.stages.pop(event.stage, None)
        self.stages[event.stage] = entry_of(event)
        self.changes["state"] = "running"

    def again(self) -> None:
        """The run goes on, and the release did not come to its end."""
        entry = self.entry
        if entry.state == "done":
            return
        kept = tuple(one for one in entry.stages if one.status != "failed")
        self._take(ReleaseRun(release=entry.release, stages=kept))

    @property
    def entry(self) -> ReleaseRun:
        changes = {**self.changes, "stages": tuple(self.stages.values())}
        return self._entry.model_copy(update=changes)


def read_events(folder: Path) -> Iterator[Event]:
    """The events of a run's folder; a line that a kill cut off is passed over."""
    try:
        file = (folder / EVENTS).open("rb")
    except OSError:
        return
    with file:
        for row in file:
            try:
                yield EVENT.validate_json(row)
            except ValidationError:
                continue
