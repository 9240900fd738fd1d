"""Runs, as ``run.json`` keeps them: what was asked for, and how far each release came."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from relforge.events import ReleaseState, Said, StageFinished, StageStatus, Verdict
from relforge.frozen import Frozen


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
    next: Said | None = None
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
