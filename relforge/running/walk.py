"""One release on its way through the stages: where it is, what it has, how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.errors import RelforgeError
from relforge.events import StageStatus
from relforge.evidence.runs import ReleaseRun, StageEntry
from relforge.manifest.limits import StageLimits
from relforge.plan import PlannedStage, ReleasePlan
from relforge.stage import Stage, StageResult


@dataclass(frozen=True)
class Outcome:
    """What a run of one release came to. ``error`` is None when every stage passed.

    ``run_dir`` is where the files of this release in the run lie.
    """

    run_id: str
    entry: ReleaseRun
    run_dir: Path
    results: dict[str, StageResult]
    error: RelforgeError | None
    bug: BaseException | None = None
    """What a stage raised that no stage should."""

    @property
    def release(self) -> str:
        return self.entry.release


@dataclass
class Walk:
    """``order`` is the release's place in the run: the first comes first to what is scarce."""

    plan: ReleasePlan
    stages: Sequence[Stage[Any, Any]]
    order: int
    run_dir: Path
    entry: ReleaseRun
    results: dict[str, StageResult] = field(default_factory=dict)
    error: RelforgeError | None = None
    bug: BaseException | None = None
    position: int = 0
    began_s: float | None = None
    waits: str | None = None
    """Why it does not go on just now; told once."""
    missing_parts: set[str] = field(default_factory=set)
    done_parts: bool = False
    told_start: bool = False

    @property
    def limits(self) -> StageLimits:
        """What the release's manifest says of the stage that it is at."""
        named = self.plan.subject.release.limits
        return next((one for name, one in named.items() if name == self.stage.name), StageLimits())

    @property
    def name(self) -> str:
        return self.plan.name

    def make_plan(self) -> None:
        """Where that was left for later. Raises RelforgeError when it cannot be planned."""
        _ = self.plan.stages

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.stages)

    @property
    def stage(self) -> Stage[Any, Any]:
        return self.stages[self.position]

    @property
    def planned(self) -> PlannedStage:
        return self.plan.stages[self.position]

    @property
    def ended(self) -> bool:
        """Nothing more will be done for it."""
        return self.entry.state not in ("waiting", "running")

    def begin(self) -> None:
        """Its first stage begins."""
        if self.began_s is None:
            self.began_s = time.monotonic()
            self.entry = self.entry.model_copy(update={"state": "running"})

    @property
    def seconds(self) -> float:
        return 0.0 if self.began_s is None else time.monotonic() - self.began_s

    def note(self, entry: StageEntry) -> None:
        self.entry = self.entry.with_stage(entry)

    def go_on(self) -> None:
        """To the next stage."""
        self.position += 1
        self.waits = None
        self.missing_parts = set()
        self.done_parts = False
        self.told_start = False

    def entry_for(
        self,
        status: StageStatus,
        detail: str,
        seconds: float,
        result: StageResult | None = None,
        shared_with: str | None = None,
    ) -> StageEntry:
        """What the record keeps of the stage that it is at."""
        return StageEntry(
            name=self.stage.name,
            status=status,
            seconds=round(seconds, 3),
            verdict=result.verdict if result else None,
            key=self.planned.key,
            detail=detail,
            shared_with=shared_with,
        )

    def outcome(self, run_id: str) -> Outcome:
        entry = self.entry
        if not self.ended:
            entry = entry.model_copy(update={"seconds": round(self.seconds, 3)})
        return Outcome(run_id, entry, self.run_dir, self.results, self.error, self.bug)
