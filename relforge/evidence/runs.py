"""Runs on disk: one folder per execution, for all of its releases.

::

    <home>/runs/<id>/
      run.json                what was asked for, and how far each release came
      events.jsonl            everything that happened (``events.py``); written before it counts
      owner                   the process that works on it, which holds a lock on this file
      <release>/logs/         one log for each stage, and those of servers and builds
      <release>/results/      what each stage gave

``run.json`` is written when the run begins, now and then when releases end, and at the end. Of a
run that is at work, or was killed, the events tell the rest.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import secrets
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from relforge import owner
from relforge.errors import ExitCode, RelforgeError
from relforge.events import (
    EVENT,
    Event,
    ReleaseFinished,
    ReleaseState,
    RunStarted,
    Said,
    StageFinished,
    StageLine,
    StageStarted,
    StageStatus,
    Verdict,
)
from relforge.files import write_atomic
from relforge.frozen import Frozen
from relforge.leftovers import held, hold

_OWNER = "owner"
EVENTS = "events.jsonl"


class StageEntry(Frozen):
    """What one stage did in a run. ``seconds`` is wall time in this run."""

    name: str
    status: StageStatus
    seconds: float
    verdict: Verdict | None = None
    key: str | None = None
    detail: Said = ""
    shared_with: str | None = None
    """The release whose job gave this result, too."""


class ReleaseRun(Frozen):
    """One release in a run. ``seconds`` is from its first stage to its last, waiting included."""

    release: str
    state: ReleaseState = "waiting"
    exit_code: int | None = None
    error: Said | None = None
    next: str | None = None
    """The command that goes on from a failure."""
    seconds: float = 0.0
    stages: tuple[StageEntry, ...] = ()

    def with_stage(self, entry: StageEntry) -> ReleaseRun:
        """The same with one more stage; in the place of what an earlier attempt said of it."""
        others = tuple(one for one in self.stages if one.name != entry.name)
        return self.model_copy(update={"stages": (*others, entry)})


class Asked(Frozen):
    """What a run was asked for: enough to go on with it."""

    releases: tuple[str, ...] = ()
    until: str | None = None
    since: str | None = None
    """The stage from which on everything is done anew, whatever the store has."""
    targets: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    project: str | None = None
    site: str | None = None
    key_path: str | None = None
    key_passphrase_file: str | None = None
    jobs: int | None = None
    executor: str = "local"
    fail_fast: bool = False
    root: str | None = None
    """The folder of the project in force."""
    dist: str | None = None
    """Where releases are published."""
    keys: Mapping[str, Mapping[str, str]] = {}
    """Of each release, its stages' keys when the run began."""

    def resuming(self, run_id: str) -> str:
        """The command that goes on with the run, from wherever it is typed."""
        words = ["relforge", "release", "--resume", run_id]
        for option, value in (("--project", self.project), ("--site", self.site)):
            words += [option, value] if value else []
        return shlex.join(words)


class Run(Frozen):
    """One execution of a command, as ``run.json`` keeps it."""

    id: str
    command: str
    started_s: float
    ended_s: float | None = None
    state: ReleaseState = "running"
    exit_code: int | None = None
    error: Said | None = None
    attempt: int = 1
    """How often it was begun; more than once where it was resumed."""
    asked: Asked = Asked()
    releases: tuple[ReleaseRun, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_one_release(cls, value: Any) -> Any:
        """What earlier versions wrote: one release, its stages beside the run's own fields."""
        if isinstance(value, dict) and "release" in value and "releases" not in value:
            value = dict(value)
            same = ("exit_code", "error", "state")
            only = {
                "release": value.pop("release"),
                "stages": value.pop("stages", ()),
                **{name: value[name] for name in same if name in value},
            }
            value["releases"] = (only,)
        return value

    @property
    def title(self) -> str:
        """Its release, or how many it has."""
        if len(self.releases) == 1:
            return self.releases[0].release
        return f"{len(self.releases)} releases"

    def release(self, name: str) -> ReleaseRun:
        """Raises KeyError for one that is none of this run's."""
        for one in self.releases:
            if one.release == name:
                return one
        raise KeyError(name)

    def with_release(self, entry: ReleaseRun) -> Run:
        """The same with that release's entry in its place."""
        found = tuple(entry if one.release == entry.release else one for one in self.releases)
        return self.model_copy(update={"releases": found})


def new_run_id() -> str:
    """Sorts by time; the random tail keeps two runs of one second apart."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)


class RunFolder:
    """Writes one run's folder below ``<home>/runs``; events may come from several threads."""

    def __init__(self, home: Path, run_id: str) -> None:
        self.path = home / "runs" / run_id
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / _OWNER, owner.current().text.encode())
        self._lock = os.open(self.path / _OWNER, os.O_RDONLY)
        hold(self._lock)
        events = self.path / EVENTS
        cut_off = _cut_off(events)
        self._events = events.open("a", encoding="utf-8")
        if cut_off:
            self._events.write("\n")
        self._writing = threading.Lock()

    def release_dir(self, release: str) -> Path:
        """Where the files of one release in this run lie."""
        return self.path / release

    def log_path(self, release: str, stage: str) -> Path:
        return self.release_dir(release) / "logs" / f"{stage}.log"

    def event(self, event: Event) -> None:
        """Appends to the event stream, and log lines to the stage's log.

        What counts, the end of a stage or of a release, is on the disk when this returns.
        """
        line = event.model_dump_json() + "\n"
        with self._writing:
            if self._events.closed:
                return  # a job that was given up on has a last word
            self._events.write(line)
            self._events.flush()
            if _counts(event):
                os.fdatasync(self._events.fileno())
        if isinstance(event, StageLine):
            path = self.log_path(event.release, event.stage)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as log:
                log.write(event.text + "\n")

    def write(self, run: Run) -> None:
        write_atomic(self.path / "run.json", run.model_dump_json(indent=1).encode() + b"\n")

    def write_result(self, release: str, stage: str, result: dict[str, Any]) -> None:
        """For people: what counts is in the store, or, of a failed gate, in the events."""
        folder = self.release_dir(release) / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage}.json").write_bytes(json.dumps(result, indent=1).encode() + b"\n")

    def close(self) -> None:
        with self._writing:
            self._events.close()
        os.close(self._lock)


def _counts(event: Event) -> bool:
    """Whether it tells of work that was done; what was reused or skipped can be told again."""
    if isinstance(event, StageFinished):
        return event.status in ("ran", "failed")
    return isinstance(event, ReleaseFinished) and event.state != "done"


def log_path(folder: Path, release: str, stage: str) -> Path:
    """The log of a stage in a run's folder; earlier versions kept those of their one release
    without its name."""
    path = folder / release / "logs" / f"{stage}.log"
    older = folder / "logs" / path.name
    return older if older.exists() else path


def result_path(folder: Path, release: str, stage: str) -> Path:
    """What a stage gave, in a run's folder; likewise."""
    path = folder / release / "results" / f"{stage}.json"
    older = folder / "results" / path.name
    return older if older.exists() else path


def _cut_off(events: Path) -> bool:
    """Whether a kill left the last line without its end."""
    try:
        with events.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # not there, or empty
        return False


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
        named = owner.Owner.parse((folder / _OWNER).read_text())
        return named is not None and named.gone and not held(folder / _OWNER)
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
    entries = {one.release: one for one in run.releases}
    for event in read_events(folder):
        if isinstance(event, RunStarted):
            # Another attempt: what an earlier one was at, or failed with, is over.
            at_work.clear()
            entries = {name: _again(one) for name, one in entries.items()}
        elif isinstance(event, StageStarted):
            at_work[event.release] = event.stage
            entry = entries.get(event.release, ReleaseRun(release=event.release))
            entries[event.release] = entry.model_copy(update={"state": "running"})
        elif isinstance(event, StageFinished):
            at_work.pop(event.release, None)
            entry = entries.get(event.release, ReleaseRun(release=event.release))
            entries[event.release] = entry.with_stage(entry_of(event)).model_copy(
                update={"state": "running"}
            )
        elif isinstance(event, ReleaseFinished):
            at_work.pop(event.release, None)
            entry = entries.get(event.release, ReleaseRun(release=event.release))
            entries[event.release] = entry.model_copy(
                update=event.model_dump(include={"state", "exit_code", "error", "next", "seconds"})
            )
    return run.model_copy(update={"releases": tuple(entries.values())}), at_work


def _again(entry: ReleaseRun) -> ReleaseRun:
    """Of a release that did not come to its end, when a run goes on."""
    if entry.state == "done":
        return entry
    kept = tuple(one for one in entry.stages if one.status != "failed")
    return ReleaseRun(release=entry.release, stages=kept)


def entry_of(event: StageFinished) -> StageEntry:
    """What the record keeps of an event."""
    return StageEntry(
        name=event.stage,
        status=event.status,
        seconds=round(event.seconds, 3),
        verdict=event.verdict,
        key=event.key,
        detail=event.detail,
        shared_with=event.shared_with,
    )


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


def _plain(run_id: str) -> str:
    """Without what a pattern or a path would make of it."""
    return "".join(char for char in run_id if char.isalnum() or char in "-_") or "-"
