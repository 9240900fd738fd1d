"""Runs as they lie in a home, made by hand: what relforge writes, without running anything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.events import (
    ReleaseFinished,
    ReleaseState,
    RunFinished,
    RunStarted,
    StageFinished,
    StageLine,
    StageStarted,
)
from relforge.evidence.run_folder import RunFolder
from relforge.evidence.runs import Asked, ReleaseRun, Run, entry_of

SECOND = 1_790_000_000.0
"""When made runs begin, unless they are told: a moment in 2026."""


@dataclass
class MadeRun:
    """A run that is being told; ``end`` writes its end."""

    home: Path
    id: str
    releases: tuple[str, ...] = ("hello-cpu_x86",)
    started_s: float = SECOND
    attempt: int = 1
    root: str | None = None
    entries: dict[str, ReleaseRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = RunFolder(self.home, self.id)
        for name in self.releases:
            self.entries.setdefault(name, ReleaseRun(release=name))
        self.clock_s = self.started_s
        self.folder.write(self.run())
        self.folder.event(
            RunStarted(
                run=self.id, command="relforge release --all", releases=self.releases,
                attempt=self.attempt, time_s=self.started_s,
            )
        )  # fmt: skip

    def run(self, **changes: Any) -> Run:
        values: dict[str, Any] = {
            "id": self.id, "command": "relforge release --all", "started_s": self.started_s,
            "attempt": self.attempt, "asked": Asked(releases=self.releases),
            "releases": tuple(self.entries.values()),
        }  # fmt: skip
        return Run(**{**values, **changes})

    def begin(self, stage: str, release: str = "hello-cpu_x86") -> None:
        self.folder.event(StageStarted(release=release, stage=stage, time_s=self.clock_s))

    def say(self, stage: str, text: str, release: str = "hello-cpu_x86") -> None:
        self.folder.event(
            StageLine(release=release, stage=stage, text=text, time_s=self.clock_s)
        )  # fmt: skip

    def stage(
        self, stage: str, release: str = "hello-cpu_x86", *, seconds: float = 1.0,
        result: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self.clock_s += seconds
        values = {"status": "ran", "verdict": None, "detail": f"{stage} is there", **more}
        event = StageFinished(
            release=release, stage=stage, seconds=seconds, time_s=self.clock_s, **values
        )
        if result is not None:
            self.folder.write_result(release, stage, result)
        self.folder.event(event)
        self.entries[release] = self.entries[release].with_stage(entry_of(event))

    def finish(
        self, release: str = "hello-cpu_x86", state: ReleaseState = "done", code: int = 0,
        error: str | None = None,
    ) -> None:  # fmt: skip
        seconds = self.clock_s - self.started_s
        following = None if state == "done" else f"relforge release --resume {self.id}"
        self.folder.event(
            ReleaseFinished(
                release=release, state=state, exit_code=code, error=error, next=following,
                seconds=seconds, time_s=self.clock_s,
            )
        )  # fmt: skip
        self.entries[release] = self.entries[release].model_copy(
            update={
                "state": state, "exit_code": code, "error": error, "next": following,
                "seconds": seconds,
            }
        )  # fmt: skip

    def end(self, state: ReleaseState = "done", code: int = 0, error: str | None = None) -> Run:
        self.folder.event(RunFinished(state=state, exit_code=code, time_s=self.clock_s))
        run = self.run(state=state, exit_code=code, ended_s=self.clock_s, error=error)
        self.folder.write(run)
        self.folder.close()
        for path in self.folder.path.rglob("*"):
            os.utime(path, (self.clock_s, self.clock_s))
        return run


def old_run(home: Path, run_id: str, *, started_s: float = SECOND) -> Path:
    """A run as versions before runs of many releases kept it: one release, its files beside
    run.json. The layout and fields are those that such versions wrote."""
    folder = home / "runs" / run_id
    (folder / "logs").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / "logs" / "build.log").write_text("compiling\nno such file: main.cpp\n")
    (folder / "logs" / "sources.log").write_text("fetching\n")
    (folder / "results" / "sources.json").write_text('{"trees": []}\n')
    stages = [
        {"name": "sources", "status": "ran", "seconds": 1.5, "verdict": None, "key": "a" * 64,
         "detail": "2 trees"},
        {"name": "build", "status": "failed", "seconds": 3.25, "verdict": None, "key": None,
         "detail": "the image could not be built"},
    ]  # fmt: skip
    run = {
        "id": run_id, "release": "hello-cpu_x86", "command": "relforge build --device cpu_x86",
        "started_s": started_s, "ended_s": started_s + 5, "state": "failed", "exit_code": 5,
        "error": "the image could not be built", "stages": stages,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run, indent=1))
    events = [
        {"type": "stage-started", "release": "hello-cpu_x86", "stage": one["name"],
         "time_s": started_s}
        for one in stages
    ]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    (folder / "owner").write_text("00000000-0000-0000-0000-000000000000:1:1")
    return folder
