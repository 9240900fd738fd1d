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

import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from relforge import owner
from relforge.events import Event, ReleaseFinished, StageFinished, StageLine
from relforge.evidence.runs import Run
from relforge.files import write_atomic
from relforge.leftovers import hold

OWNER = "owner"
EVENTS = "events.jsonl"


def new_run_id() -> str:
    """Sorts by time; the random tail keeps two runs of one second apart."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)


class RunFolder:
    """Writes one run's folder below ``<home>/runs``; events may come from several threads."""

    def __init__(self, home: Path, run_id: str) -> None:
        self.path = home / "runs" / run_id
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / OWNER, owner.current().text.encode())
        self._lock = os.open(self.path / OWNER, os.O_RDONLY)
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
