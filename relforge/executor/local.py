"""Runs a job in this process."""

from __future__ import annotations

from typing import Any, Protocol

from relforge.stage import Job, Stage, StageContext, StageResult


class Executor(Protocol):
    """Runs one job of one stage and returns its result."""

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        """Raises what the stage raises."""


class LocalExecutor:
    """In this process, one job at a time."""

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        result = stage.run(job, ctx)
        assert isinstance(result, StageResult)
        return result
