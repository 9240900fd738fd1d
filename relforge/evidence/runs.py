"""Runs on disk: one folder per execution, with events, logs and what each stage did."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from relforge import owner
from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.frozen import Frozen
from relforge.leftovers import held, hold
from relforge.stage import Event, StageFinished, StageLine, StageStarted, StageStatus, Verdict

_OWNER = "owner"
_EVENTS = "events.jsonl"
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class StageEntry(Frozen):
    """What one stage did in a run. ``seconds`` is wall time in this run."""

    name: str
    status: StageStatus
    seconds: float
    verdict: Verdict | None = None
    key: str | None = None
    detail: str = ""


class Run(Frozen):
    """One execution of a plan, as ``run.json`` keeps it."""

    id: str
    release: str
    command: str
    started_s: float
    ended_s: float | None = None
    state: Literal["running", "done", "failed", "interrupted", "killed"] = "running"
    """``killed`` is never written: it is a run that says ``running`` and whose process is gone."""
    exit_code: int | None = None
    error: str | None = None
    stages: tuple[StageEntry, ...] = ()


def new_run_id() -> str:
    """Sorts by time; the random tail keeps two runs of one second apart."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)


class RunFolder:
    """Writes one run's folder below ``<home>/runs``."""

    def __init__(self, home: Path, run_id: str) -> None:
        self.path = home / "runs" / run_id
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / _OWNER, owner.current().text.encode())
        self._lock = os.open(self.path / _OWNER, os.O_RDONLY)
        hold(self._lock)
        self._events = (self.path / _EVENTS).open("a", encoding="utf-8")

    def log_path(self, stage: str) -> Path:
        return self.path / "logs" / f"{stage}.log"

    def event(self, event: Event) -> None:
        """Appends to the event stream, and log lines to the stage's log."""
        self._events.write(event.model_dump_json() + "\n")
        self._events.flush()
        if isinstance(event, StageLine):
            path = self.log_path(event.stage)
            path.parent.mkdir(exist_ok=True)
            with path.open("a", encoding="utf-8") as log:
                log.write(event.text + "\n")

    def write(self, run: Run) -> None:
        write_atomic(self.path / "run.json", run.model_dump_json(indent=1).encode() + b"\n")

    def write_result(self, stage: str, result: dict[str, Any]) -> None:
        write_atomic(
            self.path / "results" / f"{stage}.json", json.dumps(result, indent=1).encode() + b"\n"
        )

    def close(self) -> None:
        self._events.close()
        os.close(self._lock)


def list_runs(home: Path) -> Iterator[Run]:
    """All runs, newest first; folders without a readable ``run.json`` are passed over.

    A run that could not write its end is ``killed``, with what its event stream tells of it.
    """
    for path in sorted((home / "runs").glob("*/run.json"), reverse=True):
        run = _read(path)
        if run is not None and run.state == "running" and _owner_gone(path.parent):
            # Read again: it may have written its end just before it went.
            run = _read(path)
            if run is not None and run.state == "running":
                run = _killed(run, path.parent / _EVENTS)
        if run is not None:
            yield run


def _read(path: Path) -> Run | None:
    try:
        return Run.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _owner_gone(folder: Path) -> bool:
    try:
        named = owner.Owner.parse((folder / _OWNER).read_text())
        return named is not None and named.gone and not held(folder / _OWNER)
    except OSError:
        return False  # nobody can tell


def _killed(run: Run, events: Path) -> Run:
    """The run as far as it came; it ended when its last event was written, or later."""
    entries: list[StageEntry] = []
    at_work: str | None = None
    ended_s = run.started_s
    try:
        ended_s = max(ended_s, events.stat().st_mtime)
        rows = events.read_bytes().splitlines()
    except OSError:
        rows = []
    for row in rows:
        try:
            event = _EVENT.validate_json(row)
        except ValidationError:
            continue  # the line that was being written
        if isinstance(event, StageStarted):
            at_work = event.stage
        elif isinstance(event, StageFinished):
            at_work = None
            entries.append(
                StageEntry(
                    name=event.stage,
                    status=event.status,
                    seconds=round(event.seconds, 3),
                    verdict=event.verdict,
                    detail=event.detail,
                )
            )
    return run.model_copy(
        update={
            "state": "killed",
            "ended_s": ended_s,
            "error": f"killed during {at_work}" if at_work else "killed between two stages",
            "stages": tuple(entries),
        }
    )


def load_run(home: Path, run_id: str) -> Run:
    """One run by its id or a unique beginning of it. Raises RelforgeError (USAGE)."""
    matches = [run for run in list_runs(home) if run.id.startswith(run_id)]
    if len(matches) == 1:
        return matches[0]
    raise RelforgeError(
        f"{'no run' if not matches else 'more than one run'} begins with {run_id!r}",
        code=ExitCode.USAGE,
        where=str(home / "runs"),
        hint="list them: relforge runs",
    )
