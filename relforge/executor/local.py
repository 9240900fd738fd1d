"""Runs a job in this process."""

from __future__ import annotations

from typing import Any, Protocol

from relforge.stage import Job, Stage, StageContext, StageResult


class Executor(Protocol):
    """Runs jobs of stages and returns their results; asked from several threads at once."""

    def sends(self, stage: Stage[Any, Any], job: Job[Any]) -> bool:
        """Whether the job goes to another host: it then takes nothing of what this one has, and
        what such jobs share (``Stage.parts``) is not made here. ``execute`` then tells
        StageStarted, with the host, when one has taken the job, and StageWaiting when that one is
        lost."""

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        """Raises what the stage raises."""


class LocalExecutor:
    """In this process, in the thread that asks."""

    def sends(self, stage: Stage[Any, Any], job: Job[Any]) -> bool:  # noqa: ARG002
        return False

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        result = stage.run(job, ctx)
        assert isinstance(result, StageResult)
        return result
