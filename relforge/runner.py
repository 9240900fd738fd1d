"""Runs a plan: skips, reuses, executes, records. Stages know nothing of any of this."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.evidence.runs import Run, RunFolder, StageEntry, new_run_id
from relforge.evidence.store import Miss, Store
from relforge.executor.local import Executor
from relforge.files import held_lock
from relforge.manifest.site import Site
from relforge.plan import PlannedStage, ReleasePlan
from relforge.stage import (
    Event,
    Job,
    Stage,
    StageContext,
    StageEnv,
    StageFinished,
    StageResult,
    StageStarted,
    StageStatus,
)


@dataclass(frozen=True)
class Outcome:
    """What a run of one release came to. ``error`` is None when every stage passed."""

    run: Run
    run_dir: Path
    results: dict[str, StageResult]
    error: RelforgeError | None


class Runner:
    """Executes plans against one home."""

    def __init__(
        self,
        *,
        home: Path,
        executor: Executor,
        site: Site,
        dist: Path,
        cancel: CancelToken,
        listeners: Sequence[Callable[[Event], None]] = (),
    ) -> None:
        self.home = home
        self.store = Store(home)
        self.executor = executor
        self.site = site
        self.dist = dist
        self.cancel = cancel
        self.listeners = tuple(listeners)

    def run(self, plan: ReleasePlan, stages: Sequence[Stage[Any, Any]], command: str) -> Outcome:
        """Runs every stage of the plan in order and stops at the first that fails."""
        run = Run(id=new_run_id(), release=plan.name, command=command, started_s=time.time())
        folder = RunFolder(self.home, run.id)
        folder.write(run)
        entries: list[StageEntry] = []
        results: dict[str, StageResult] = {}
        error: RelforgeError | None = None
        state, code = "done", int(ExitCode.DONE)
        try:
            for stage, planned in zip(stages, plan.stages, strict=True):
                entry, result, error = self._stage(plan, stage, planned, results, folder, run.id)
                entries.append(entry)
                if result is not None:
                    results[stage.name] = result
                    folder.write_result(stage.name, result.model_dump(mode="json"))
                if error is not None:
                    state, code = "failed", int(error.code)
                    break
            else:
                self.store.remember(plan.name, kept_keys(plan, stages))
        except (Cancelled, KeyboardInterrupt):
            state, code = "interrupted", int(ExitCode.INTERRUPTED)
            raise
        except BaseException:
            state, code = "failed", int(ExitCode.BUG)
            raise
        finally:
            run = run.model_copy(
                update={
                    "ended_s": time.time(),
                    "state": state,
                    "exit_code": code,
                    "error": str(error) if error else None,
                    "stages": tuple(entries),
                }
            )
            folder.write(run)
            folder.close()
        return Outcome(run, folder.path, results, error)

    def _stage(
        self,
        plan: ReleasePlan,
        stage: Stage[Any, Any],
        planned: PlannedStage,
        results: dict[str, StageResult],
        folder: RunFolder,
        run_id: str,
    ) -> tuple[StageEntry, StageResult | None, RelforgeError | None]:
        def emit(event: Event) -> None:
            folder.event(event)
            for listener in self.listeners:
                listener(event)

        def finish(
            status: StageStatus, detail: str, seconds: float, result: StageResult | None = None
        ) -> StageEntry:
            verdict = result.verdict if result else None
            emit(
                StageFinished(
                    release=plan.name,
                    stage=stage.name,
                    status=status,
                    verdict=verdict,
                    detail=detail,
                    seconds=seconds,
                    time_s=time.time(),
                )
            )
            return StageEntry(
                name=stage.name,
                status=status,
                seconds=round(seconds, 3),
                verdict=verdict,
                key=planned.key,
                detail=detail,
            )

        started = time.monotonic()
        if planned.status == "skip":
            return finish("skipped", planned.because, 0.0), None, None
        if planned.status == "reuse":
            reused = plan.reused.get(stage.name)
            detail = stage.outcome(reused) if reused else planned.because
            return finish("reused", detail, time.monotonic() - started, reused), reused, None
        emit(StageStarted(release=plan.name, stage=stage.name, time_s=time.time()))
        try:
            result, found = self._execute(plan, stage, planned, results, folder, run_id, emit)
        except RelforgeError as failed:
            failed.log = failed.log or _existing(folder.log_path(stage.name))
            return finish("failed", failed.what, time.monotonic() - started), None, failed
        seconds = time.monotonic() - started
        if result.verdict in ("fail", "inconclusive"):
            gate = RelforgeError(
                f"{stage.name}: {result.verdict}",
                code=ExitCode.GATE,
                why=result.reason,
                hint=f"read the evidence: relforge runs show {run_id}",
                log=_existing(folder.log_path(stage.name)),
            )
            return finish("failed", result.reason, seconds, result), result, gate
        status: StageStatus = "reused" if found else "ran"
        return finish(status, stage.outcome(result), seconds, result), result, None

    def _execute(
        self,
        plan: ReleasePlan,
        stage: Stage[Any, Any],
        planned: PlannedStage,
        results: dict[str, StageResult],
        folder: RunFolder,
        run_id: str,
        emit: Callable[[Event], None],
    ) -> tuple[StageResult, bool]:
        """Returns the result, and whether another run had made it while this one waited."""
        self.cancel.check()
        assert planned.key is not None
        inputs = plan.inputs[stage.name]
        env = StageEnv(
            home=self.home,
            project_roots=plan.subject.project.roots,
            site=self.site,
            run_id=run_id,
            run_dir=folder.path,
            release=plan.name,
            dist=self.dist,
        )
        upstream = {name: results[name] for name in stage.needs if name in results}
        job = Job(stage.name, planned.key, inputs, upstream, env)
        ctx = StageContext(plan.name, stage.name, self.cancel, emit)
        if stage.check_only or not stage.kept:
            return self.executor.execute(stage, job, ctx), False
        lock = self.store.root / "locks" / f"{stage.name}-{planned.key[:32]}"
        purpose = f"{stage.name} of {plan.name}"
        with held_lock(lock, purpose=purpose, on_wait=ctx.line, cancel=self.cancel):
            found = self.store.lookup(stage.name, planned.key)
            if not isinstance(found, Miss):
                known = stage.result_type.model_validate(found.result)
                if stage.unusable(known, plan.subject) is None:
                    return known, True
            started = time.monotonic()
            result = self.executor.execute(stage, job, ctx)
            if result.verdict in (None, "pass", "not-run"):
                self.store.save(
                    stage=stage.name,
                    key=planned.key,
                    inputs=inputs,
                    result=result,
                    seconds=time.monotonic() - started,
                    run_id=run_id,
                )
        return result, False


def kept_keys(plan: ReleasePlan, stages: Sequence[Stage[Any, Any]]) -> dict[str, str]:
    """The keys of a plan that results in the store have."""
    kept = {stage.name for stage in stages if stage.kept}
    return {s.name: s.key for s in plan.stages if s.key and s.name in kept}


def _existing(path: Path) -> str | None:
    return str(path) if path.exists() else None
