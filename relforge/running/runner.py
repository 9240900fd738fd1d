"""A run: plans in, a folder on disk that tells how each release came out.

Everything that counts is written before it counts, so that a run which was killed anywhere goes on
with what is left (``resume``): results lie in the store by their keys, and what happened in the
run's events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import Event, ReleaseFinished, ReleaseState, RunFinished, RunStarted
from relforge.evidence.run_folder import RunFolder, new_run_id
from relforge.evidence.runs import Asked, ReleaseRun, Run
from relforge.evidence.store import Store
from relforge.executor.local import Executor
from relforge.manifest.site import Site
from relforge.plan import ReleasePlan, from_stage
from relforge.running.limits import Limits, Taken
from relforge.running.scheduler import AfterRelease, Scheduler
from relforge.running.walk import Outcome, Walk
from relforge.stage import Stage, StageEnv

_WRITE_EVERY_S = 1.0
"""A run of thousands of releases has a record of megabytes."""


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
        limits: Limits | None = None,
        fail_fast: bool = False,
    ) -> None:
        self.home = home
        self.store = Store(home)
        self.executor = executor
        self.site = site
        self.dist = dist
        self.cancel = cancel
        self.listeners = tuple(listeners)
        self.limits = limits or Limits.of(site.limits, home)
        self.fail_fast = fail_fast
        self.run_id = ""
        self._told = threading.Lock()

    def run(self, plan: ReleasePlan, stages: Sequence[Stage[Any, Any]], command: str) -> Outcome:
        """One release: every stage of the plan in order, up to the first that fails.

        Raises Cancelled, and whatever a stage raises that is no RelforgeError.
        """
        asked = Asked(releases=(plan.name,))
        (outcome,) = self.run_all([plan], stages, command, asked)
        if outcome.bug is not None:
            raise outcome.bug
        return outcome

    def run_all(
        self,
        plans: Sequence[ReleasePlan],
        stages: Sequence[Stage[Any, Any]],
        command: str,
        asked: Asked,
        *,
        not_planned: Mapping[str, RelforgeError] | None = None,
        after: AfterRelease | None = None,
        resumed: Run | None = None,
    ) -> tuple[Outcome, ...]:
        """Several releases at once; one that fails stops no other, unless ``fail_fast``.

        ``not_planned`` are releases that were asked for and cannot be planned; they stand in the
        run with their errors. ``resumed`` is an earlier run that goes on: it keeps its id. Raises
        Cancelled and KeyboardInterrupt when it was stopped.
        """
        run = self._begun(plans, command, asked, not_planned or {}, resumed)
        self.run_id = run.id
        folder = RunFolder(self.home, run.id)
        folder.write(run)
        record = _Record(run, folder)

        def emit(event: Event) -> None:
            folder.event(event)
            with self._told:
                for listener in self.listeners:
                    listener(event)

        names = tuple(one.release for one in run.releases)
        emit(
            RunStarted(
                run=run.id, command=command, releases=names, attempt=run.attempt,
                time_s=time.time(),
            )
        )  # fmt: skip
        for release, error in (not_planned or {}).items():
            emit(_not_planned(release, error))
        walks = [
            Walk(plan, stages, number, folder.release_dir(plan.name), run.release(plan.name))
            for number, plan in enumerate(plans)
        ]
        try:
            self._scheduled(walks, stages, asked, folder, record, emit, after)
        finally:
            self._ended(record, walks, folder, emit, stopped=self.cancel.cancelled)
        states = {walk.entry.state for walk in walks}
        if self.cancel.cancelled or ("interrupted" in states and "failed" not in states):
            raise Cancelled(self.cancel.reason)
        return tuple(walk.outcome(run.id) for walk in walks)

    def _begun(
        self,
        plans: Sequence[ReleasePlan],
        command: str,
        asked: Asked,
        not_planned: Mapping[str, RelforgeError],
        resumed: Run | None,
    ) -> Run:
        keys = {
            plan.name: {stage.name: stage.key for stage in plan.stages if stage.key}
            for plan in plans
            if plan.name not in asked.keys
        }
        planned = {plan.name for plan in plans}
        failed = {name: _not_planned(name, error) for name, error in not_planned.items()}
        before = {one.release: one for one in resumed.releases} if resumed else {}
        entries = []
        for name in asked.releases:
            if name in failed:
                event = failed[name]
                entries.append(
                    ReleaseRun(
                        release=name, state="failed", exit_code=event.exit_code, error=event.error
                    )
                )
            elif name in planned:
                entries.append(ReleaseRun(release=name))
            elif name in before:
                entries.append(before[name])  # it was done before
        return Run(
            id=resumed.id if resumed else new_run_id(),
            command=resumed.command if resumed else command,
            started_s=resumed.started_s if resumed else time.time(),
            attempt=resumed.attempt + 1 if resumed else 1,
            asked=asked.model_copy(
                update={
                    "keys": {**asked.keys, **keys},
                    "root": asked.root or _root(plans),
                    "dist": str(self.dist),
                }
            ),
            releases=tuple(entries),
        )

    def _scheduled(
        self,
        walks: Sequence[Walk],
        stages: Sequence[Stage[Any, Any]],
        asked: Asked,
        folder: RunFolder,
        record: _Record,
        emit: Callable[[Event], None],
        after: AfterRelease | None,
    ) -> None:
        def env(walk: Walk) -> StageEnv:
            walk.run_dir.mkdir(parents=True, exist_ok=True)
            return StageEnv(
                home=self.home,
                project_roots=walk.plan.subject.project.roots,
                site=self.site,
                run_id=folder.path.name,
                run_dir=walk.run_dir,
                release=walk.name,
                dist=self.dist,
            )

        def ended(walk: Walk) -> None:
            record.note(walk.entry)
            if walk.error is None and walk.bug is None and walk.at_end:
                self.store.remember(walk.name, kept_keys(walk.plan, stages))

        Scheduler(
            walks,
            executor=self.executor,
            store=self.store,
            folder=folder,
            env=env,
            taken=Taken(self.limits),
            cancel=self.cancel,
            emit=emit,
            ended=ended,
            after=after,
            forced=from_stage(stages, asked.since),
            fail_fast=self.fail_fast,
            going_on=record.run.asked.resuming(folder.path.name),
        ).run()

    def _ended(
        self,
        record: _Record,
        walks: Sequence[Walk],
        folder: RunFolder,
        emit: Callable[[Event], None],
        *,
        stopped: bool,
    ) -> None:
        for walk in walks:
            entry = walk.entry
            if stopped and entry.state == "running":
                # After a second signal not all of them have come to their end.
                entry = entry.model_copy(
                    update={"state": "interrupted", "exit_code": int(ExitCode.INTERRUPTED)}
                )
            record.note(entry)
        state, code = _whole(record.run, stopped=stopped)
        emit(RunFinished(state=state, exit_code=code, time_s=time.time()))
        record.close(state, code)
        folder.close()


class _Record:
    """``run.json``, written when releases end; the events have it all before."""

    def __init__(self, run: Run, folder: RunFolder) -> None:
        self._run = run
        self._entries = {one.release: one for one in run.releases}
        self._folder = folder
        self._written_s = 0.0

    @property
    def run(self) -> Run:
        return self._run.model_copy(update={"releases": tuple(self._entries.values())})

    def note(self, entry: ReleaseRun) -> None:
        if self._entries[entry.release] == entry:
            return
        self._entries[entry.release] = entry
        if time.monotonic() - self._written_s > _WRITE_EVERY_S:
            self._folder.write(self.run)
            self._written_s = time.monotonic()

    def close(self, state: ReleaseState, code: int) -> None:
        run = self.run
        failed = [one for one in run.releases if one.error is not None]
        error = None
        if len(run.releases) == 1 and failed:
            error = failed[0].error
        elif failed:
            error = f"{len(failed)} of {len(run.releases)} releases did not come to their end"
        update = {"state": state, "exit_code": code, "error": error, "ended_s": time.time()}
        self._folder.write(run.model_copy(update=update))


def _whole(run: Run, *, stopped: bool) -> tuple[ReleaseState, int]:
    """How the run ended: the code is that of the first release that failed."""
    if stopped:
        return "interrupted", int(ExitCode.INTERRUPTED)
    for one in run.releases:
        if one.state == "failed":
            return "failed", one.exit_code or int(ExitCode.BUG)
    if any(one.state != "done" for one in run.releases):
        return "interrupted", int(ExitCode.INTERRUPTED)
    return "done", int(ExitCode.DONE)


def _root(plans: Sequence[ReleasePlan]) -> str | None:
    """The project that the plans are of: one for all."""
    roots = plans[0].subject.project.roots if plans else ()
    return str(roots[0]) if roots else None


def _not_planned(release: str, error: RelforgeError) -> ReleaseFinished:
    return ReleaseFinished(
        release=release, state="failed", exit_code=int(error.code), error=str(error),
        next=error.hint,
        seconds=0.0, time_s=time.time(),
    )  # fmt: skip


def kept_keys(plan: ReleasePlan, stages: Sequence[Stage[Any, Any]]) -> dict[str, str]:
    """The keys of a plan that results in the store have."""
    kept = {stage.name for stage in stages if stage.kept}
    return {s.name: s.key for s in plan.stages if s.key and s.name in kept}
