"""One run in full: its releases with their stages, and what happened between them."""

from __future__ import annotations

from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.events import RunStarted, StageRetried, StageStarted, StageWaiting
from relforge.evidence.reading_runs import as_told, read_events
from relforge.evidence.run_folder import log_path
from relforge.evidence.runs import Asked, ReleaseRun, Run, StageEntry
from relforge.frozen import Frozen
from relforge.manifest.project import unknown


class Wait(Frozen):
    """A stage could run, and waited. ``time_s`` is when that began, in seconds UTC."""

    why: str
    time_s: float


class Retry(Frozen):
    """A try that failed, and the number of the one that followed."""

    attempt: int
    of: int
    why: str
    time_s: float


class ShownStage(StageEntry):
    """A stage with what its run tells of it. ``log`` is None where it wrote none."""

    log: str | None = None
    host: str | None = None
    waits: tuple[Wait, ...] = ()
    retries: tuple[Retry, ...] = ()


class ShownRelease(Frozen):
    """One release of a run. ``at_work`` is the stage that it is at, or was when it was killed."""

    release: str
    state: str
    exit_code: int | None
    error: str | None
    next: str | None
    seconds: float
    at_work: str | None
    stages: tuple[ShownStage, ...]
    waits: dict[str, tuple[Wait, ...]] = {}
    """Of stages that have not ended."""

    @property
    def failed(self) -> ShownStage | None:
        """The stage that it stopped at."""
        return next((one for one in self.stages if one.status == "failed"), None)


class RunShown(Frozen):
    """What ``relforge runs show --json`` prints; stable. ``attempts`` are the times, in seconds
    UTC, at which it was begun or resumed."""

    id: str
    state: str
    command: str
    started_s: float
    ended_s: float | None
    exit_code: int | None
    error: str | None
    attempt: int
    attempts: tuple[float, ...]
    folder: str
    next: str | None
    asked: Asked
    releases: tuple[ShownRelease, ...]


def shown(run: Run, folder: Path, release: str | None = None) -> RunShown:
    """The run, or one release of it.

    Raises RelforgeError (USAGE) for a release that it does not have.
    """
    told, at_work = as_told(run, folder) if run.state == "running" else (run, {})
    if run.state == "killed":
        at_work = as_told(run, folder)[1]
    if release is not None:
        told = told.model_copy(update={"releases": (of_release(told, release),)})
    attempts: list[float] = []
    waits: dict[tuple[str, str], list[Wait]] = {}
    retries: dict[tuple[str, str], list[Retry]] = {}
    hosts: dict[tuple[str, str], str] = {}
    for event in read_events(folder):
        if isinstance(event, RunStarted):
            attempts.append(event.time_s)
        elif isinstance(event, StageWaiting):
            wait = Wait(why=event.why, time_s=event.time_s)
            waits.setdefault((event.release, event.stage), []).append(wait)
        elif isinstance(event, StageRetried):
            again = Retry(
                attempt=event.attempt, of=event.of, why=event.why, time_s=event.time_s
            )  # fmt: skip
            retries.setdefault((event.release, event.stage), []).append(again)
        elif isinstance(event, StageStarted) and event.host is not None:
            hosts[event.release, event.stage] = event.host

    def stage(one: ReleaseRun, entry: StageEntry) -> ShownStage:
        place = (one.release, entry.name)
        log = log_path(folder, one.release, entry.name)
        return ShownStage(
            **entry.model_dump(),
            log=str(log) if log.exists() else None,
            host=hosts.get(place),
            waits=tuple(waits.get(place, ())),
            retries=tuple(retries.get(place, ())),
        )

    def of(one: ReleaseRun) -> ShownRelease:
        ended = {entry.name for entry in one.stages}
        return ShownRelease(
            release=one.release,
            state=one.state,
            exit_code=one.exit_code,
            error=one.error,
            next=one.next,
            seconds=one.seconds,
            at_work=at_work.get(one.release),
            stages=tuple(stage(one, entry) for entry in one.stages),
            waits={
                name: tuple(found)
                for (whose, name), found in waits.items()
                if whose == one.release and name not in ended
            },
        )

    return RunShown(
        id=run.id,
        state=run.state,
        command=run.command,
        started_s=run.started_s,
        ended_s=run.ended_s,
        exit_code=run.exit_code,
        error=run.error,
        attempt=run.attempt,
        attempts=tuple(attempts),
        folder=str(folder),
        next=following(run),
        asked=run.asked,
        releases=tuple(map(of, told.releases)),
    )


def following(run: Run) -> str | None:
    """The command that goes on from here; None where nothing is left."""
    if run.state == "running":
        return f"relforge runs logs {run.id} --follow"
    if run.state == "done":
        return None
    # What an earlier version made does not say what it was asked for.
    return run.asked.resuming(run.id) if run.asked.releases else run.command


def of_release(run: Run, name: str) -> ReleaseRun:
    """Raises RelforgeError (USAGE) with the nearest name."""
    try:
        return run.release(name)
    except KeyError:
        names = {one.release: one.release for one in run.releases}
        failed: RelforgeError = unknown(
            f"release of run {run.id}", name, names, f"relforge runs show {run.id}"
        )
        raise RelforgeError(
            failed.what, code=ExitCode.USAGE, why=failed.why, hint=failed.hint
        ) from None
