"""Runs a job in this process."""

from __future__ import annotations

from typing import Any, Protocol

from relforge.stage import Job, Stage, StageContext, StageResult


class Executor(Protocol):
    """Runs jobs of stages and returns their results; asked from several threads at once."""

    @property
    def makes_parts(self) -> bool:
        """Whether what jobs share is made once, here, before them (``Stage.parts``)."""

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        """Raises what the stage raises."""


class LocalExecutor:
    """In this process, in the thread that asks."""

    makes_parts = True

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        result = stage.run(job, ctx)
        assert isinstance(result, StageResult)
        return result
