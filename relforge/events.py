"""What happens in a run, as one typed stream: console, page, log files and ``runs`` read it.

``events.jsonl`` of a run's folder has one event a line, in the order in which they happened. Times
are seconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, TypeAdapter

from relforge import redact
from relforge.frozen import Frozen

Said = Annotated[str, AfterValidator(redact.text), PlainSerializer(redact.text)]
"""What a person reads, of whatever a stage or a fault said: without secrets, also where a copy was
made without the checks of the model."""

Verdict = Literal["pass", "fail", "inconclusive", "not-run"]
StageStatus = Literal["ran", "reused", "skipped", "failed"]
ReleaseState = Literal["waiting", "running", "done", "failed", "interrupted", "killed"]
"""``waiting``: nothing of it was begun. ``killed`` is never written: its process is gone."""


class RunStarted(Frozen):
    """A run begins, or goes on: ``attempt`` counts from 1."""

    type: Literal["run-started"] = "run-started"
    run: str
    command: str
    releases: tuple[str, ...]
    attempt: int
    time_s: float


class StageStarted(Frozen):
    """A stage begins to run. ``host`` is the one that it was sent to, None for this one."""

    type: Literal["stage-started"] = "stage-started"
    release: str
    stage: str
    time_s: float
    host: str | None = None


class StageWaiting(Frozen):
    """A stage could run, and waits: for what another job holds, or for that job's own result."""

    type: Literal["stage-waiting"] = "stage-waiting"
    release: str
    stage: str
    why: Said
    time_s: float


class StageLine(Frozen):
    """One line of a stage's log."""

    type: Literal["stage-line"] = "stage-line"
    release: str
    stage: str
    text: Said
    time_s: float


class StageRetried(Frozen):
    """A stage failed and is tried again; ``attempt`` is the number of the try that begins."""

    type: Literal["stage-retried"] = "stage-retried"
    release: str
    stage: str
    attempt: int
    of: int
    why: Said
    time_s: float


class StageFinished(Frozen):
    """A stage ended, or was reused or skipped. What it gave is on the disk when this is told."""

    type: Literal["stage-finished"] = "stage-finished"
    release: str
    stage: str
    status: StageStatus
    verdict: Verdict | None
    detail: Said
    seconds: float
    time_s: float
    key: str | None = None
    shared_with: str | None = None
    """The release whose job gave this result, too."""


class ReleaseFinished(Frozen):
    """A release came to its end in this run. ``next`` is the command that goes on from there."""

    type: Literal["release-finished"] = "release-finished"
    release: str
    state: ReleaseState
    exit_code: int
    error: Said | None
    next: Said | None
    seconds: float
    time_s: float


class RunFinished(Frozen):
    """Nothing more happens in this attempt."""

    type: Literal["run-finished"] = "run-finished"
    state: ReleaseState
    exit_code: int
    time_s: float


Event = (
    RunStarted
    | StageStarted
    | StageWaiting
    | StageLine
    | StageRetried
    | StageFinished
    | ReleaseFinished
    | RunFinished
)
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
"""Reads one line of ``events.jsonl``. Raises ValidationError for the line that a kill cut off."""
