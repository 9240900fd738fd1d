"""Walks many releases through their stages: what several need is done once, and nothing is begun
that this host has no room for.

One thread decides; stages work in others. A release that fails stops at its stage, and no other
does. What two releases would do alike has one key: the second waits for the first and takes its
result.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import (
    Event,
    ReleaseFinished,
    StageFinished,
    StageStarted,
    StageStatus,
    StageWaiting,
)
from relforge.evidence.run_folder import RunFolder
from relforge.evidence.store import Store
from relforge.executor.local import Executor
from relforge.running.limits import Taken
from relforge.running.walk import Walk
from relforge.running.work import Attempt, Clock, Done, StageWork, tried
from relforge.stage import Job, Part, Resources, StageContext, StageEnv, StageResult

AfterRelease = Callable[[Walk, str], RelforgeError | None]
"""What follows the last stage of a release in the run of that id: its record, and sending it. In a
worker's thread."""

_SENDING = Resources(registry=True)


@dataclass
class _Running:
    """Work in a thread. ``walks`` wait for its end; the first of them began it."""

    key: str
    walks: list[Walk]
    needs: Resources
    alone: bool = False
    part: Part | None = None
    after: bool = False
    sent: bool = False
    """To another host: the executor says when it begins there."""
    started_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Ended:
    running: _Running
    done: Done | None = None
    error: BaseException | None = None


class Scheduler:
    """One pass over some walks; ``run`` returns when each of them has ended."""

    def __init__(
        self,
        walks: Sequence[Walk],
        *,
        executor: Executor,
        store: Store,
        folder: RunFolder,
        env: Callable[[Walk], StageEnv],
        taken: Taken,
        cancel: CancelToken,
        emit: Callable[[Event], None],
        ended: Callable[[Walk], None],
        after: AfterRelease | None = None,
        forced: frozenset[str] = frozenset(),
        fail_fast: bool = False,
        going_on: str = "",
    ) -> None:
        self._walks = list(walks)
        self._executor, self._store, self._folder = executor, store, folder
        self._env = env
        self._taken = taken
        self._cancel = cancel.child()
        self._emit, self._ended, self._after = emit, ended, after
        self._forced, self._fail_fast, self._going_on = forced, fail_fast, going_on
        self._running: dict[str, _Running] = {}
        self._known: dict[str, StageResult] = {}
        """Results of this run by stage and key: they need not be looked up again."""
        self._active = {walk.name: walk for walk in self._walks}
        """Those that have not ended, in their order."""
        self._served: set[str] = set()
        """Releases that wait for the end of running work."""
        self._made: set[str] = set()
        """Keys of parts that were made in this run."""
        self._back: queue.SimpleQueue[_Ended] = queue.SimpleQueue()

    def run(self) -> None:
        """Raises KeyboardInterrupt on a second signal; everything else ends in the walks."""
        pool = ThreadPoolExecutor(self._taken.limits.jobs, thread_name_prefix="relforge-job")
        try:
            while True:
                self._begin_what_can(pool)
                if not self._running:
                    break
                self._end(self._back.get())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        for walk in list(self._active.values()):
            self._finish(walk, Cancelled(self._cancel.reason))

    # What can begin

    def _begin_what_can(self, pool: ThreadPoolExecutor) -> None:
        for walk in list(self._active.values()):
            if self._cancel.cancelled or self._taken.full:
                return
            if self._works_for(walk):
                continue
            try:
                walk.make_plan()
            except Exception as error:  # noqa: BLE001 (the others are at work)
                self._finish(walk, error, planned=False)
                continue
            self._pass_over(walk)
            if not self._begin(walk, pool):
                return

    def _works_for(self, walk: Walk) -> bool:
        return bool(walk.missing_parts) or walk.name in self._served

    def _pass_over(self, walk: Walk) -> None:
        """The stages in front of it that need no work."""
        while not walk.at_end:
            planned = walk.planned
            if planned.status == "skip":
                self._told(walk, "skipped", planned.because, 0.0)
            elif planned.status == "reuse":
                walk.begin()
                reused = walk.plan.reused.get(walk.stage.name)
                detail = walk.stage.outcome(reused) if reused else planned.because
                self._told(walk, "reused", detail, 0.0, reused)
            elif (known := self._known_result(walk)) is not None:
                walk.begin()
                self._told(walk, "reused", walk.stage.outcome(known), 0.0, known)
            else:
                return
            walk.go_on()

    def _known_result(self, walk: Walk) -> StageResult | None:
        known = self._known.get(self._key(walk))
        if known is None or walk.stage.unusable(known, walk.plan.subject) is not None:
            return None
        return known

    def _begin(self, walk: Walk, pool: ThreadPoolExecutor) -> bool:
        """Starts what the release needs next, or notes why not; False: nobody behind it may."""
        if walk.at_end:
            if self._after is None:
                self._finish(walk, None)
                return True
            after = _Running(f"after {walk.name}", [walk], _SENDING, after=True)
            self._start(after, pool, lambda: self._followed(walk))
            return True
        stage, inputs = walk.stage, walk.plan.inputs[walk.stage.name]
        key = self._key(walk)
        if (other := self._running.get(key)) is not None:
            # The same work is under way for another release.
            other.walks.append(walk)
            self._served.add(walk.name)
            self._waits(walk, f"for {other.walks[0].name}, which does the same")
            return True
        if not walk.done_parts and not self._begin_parts(walk, pool):
            return True
        work = StageWork(
            stage,
            self._job(walk),
            walk.plan.subject,
            walk.limits,
            forced=stage.name in self._forced,
        )
        needs, alone = stage.resources(inputs), stage.alone
        sent = self._executor.sends(stage, work.job)
        if sent:
            needs, alone = Resources(cpu_cores=0), False
        running = _Running(key, [walk], needs, alone=alone, sent=sent)

        def run() -> Done:
            return work.run(self._executor, self._store, self._cancel, self._emit)

        started = self._start(running, pool, run)
        # Everybody would else pass in front of what has to run alone.
        return started or not alone

    def _begin_parts(self, walk: Walk, pool: ThreadPoolExecutor) -> bool:
        """Whether all parts of the stage are there; else those that can be are begun."""
        parts = walk.stage.parts(walk.plan.inputs[walk.stage.name])
        parts = tuple(part for part in parts if part.key not in self._made)
        job, ctx, limits, stage = self._job(walk), self._context(walk), walk.limits, walk.stage
        if len(self._walks) == 1 or not parts or self._executor.sends(stage, job):
            walk.done_parts = True
            return True
        for part in parts:
            key = f"part {part.key}"
            if (other := self._running.get(key)) is not None:
                other.walks.append(walk)
                walk.missing_parts.add(part.key)
                self._waits(walk, f"for {part.name}, which {other.walks[0].name} fetches")
                continue
            running = _Running(key, [walk], part.needs, part=part)

            def make(own: CancelToken, clock: Clock, part: Part = part) -> Done:
                clock.start()
                stage.run_part(part, job, replace(ctx, cancel=own))
                return Done(StageResult())

            def within(make: Attempt = make) -> Done:
                return tried(limits, walk.name, stage.name, self._cancel, self._emit, make)

            if self._start(running, pool, within):
                walk.missing_parts.add(part.key)
        return False

    def _start(self, running: _Running, pool: ThreadPoolExecutor, run: Callable[[], Done]) -> bool:
        walk = running.walks[0]
        lacking = self._taken.lacking(running.needs, alone=running.alone)
        if lacking is not None:
            self._waits(walk, lacking)
            return False
        walk.begin()
        if not running.after and not running.sent and not walk.told_start:
            walk.told_start = True
            self._emit(StageStarted(release=walk.name, stage=walk.stage.name, time_s=time.time()))
        self._taken.take(running.needs, alone=running.alone)
        self._running[running.key] = running
        if running.part is None:
            self._served.add(walk.name)

        def work() -> None:
            try:
                self._back.put(_Ended(running, done=run()))
            except BaseException as error:  # noqa: BLE001 (the deciding thread judges it)
                self._back.put(_Ended(running, error=error))

        pool.submit(work)
        return True

    def _followed(self, walk: Walk) -> Done:
        assert self._after is not None
        error = self._after(walk, self._run_id)
        if error is not None:
            raise error
        return Done(StageResult())

    # What has ended

    def _end(self, ended: _Ended) -> None:
        running = ended.running
        del self._running[running.key]
        self._served.difference_update(walk.name for walk in running.walks)
        self._taken.give_back(running.needs, alone=running.alone)
        if running.part is not None:
            self._end_part(running, running.part, ended.error)
        elif running.after:
            self._finish(running.walks[0], ended.error)
        elif ended.error is not None:
            for walk in running.walks:
                self._fail_stage(walk, ended.error, time.monotonic() - running.started_s)
        else:
            assert ended.done is not None
            self._end_stage(running, ended.done)

    def _end_part(self, running: _Running, part: Part, error: BaseException | None) -> None:
        if error is None:
            self._made.add(part.key)
        for walk in running.walks:
            walk.missing_parts.discard(part.key)
            if error is not None and not walk.ended:
                self._fail_stage(walk, error, time.monotonic() - running.started_s)

    def _end_stage(self, running: _Running, done: Done) -> None:
        result = done.result
        if result.verdict in (None, "pass", "not-run") and running.walks[0].stage.kept:
            self._known[running.key] = result
        first = running.walks[0].name
        for number, walk in enumerate(running.walks):
            if number and walk.stage.unusable(result, walk.plan.subject) is not None:
                walk.waits = None
                continue  # it serves the other release, and not this one, which begins anew
            seconds = time.monotonic() - running.started_s
            shared = first if number else None
            if result.verdict in ("fail", "inconclusive"):
                self._told(walk, "failed", result.reason, seconds, result, shared)
                walk.results[walk.stage.name] = result
                gate = RelforgeError(
                    f"{walk.stage.name}: {result.verdict}",
                    code=ExitCode.GATE,
                    why=result.reason,
                    hint=f"read the evidence: relforge runs show {self._folder.path.name}",
                    log=self._log(walk),
                )
                self._finish(walk, gate)
                continue
            status: StageStatus = "reused" if done.found or number else "ran"
            self._told(walk, status, walk.stage.outcome(result), seconds, result, shared)
            walk.go_on()

    def _fail_stage(self, walk: Walk, error: BaseException, seconds: float) -> None:
        if isinstance(error, RelforgeError):
            error.log = error.log or self._log(walk)
            self._told(walk, "failed", error.what, seconds)
        self._finish(walk, error)

    def _told(
        self,
        walk: Walk,
        status: StageStatus,
        detail: str,
        seconds: float,
        result: StageResult | None = None,
        shared_with: str | None = None,
    ) -> None:
        """Notes how the stage that the release is at ended, and keeps its result."""
        entry = walk.entry_for(status, detail, seconds, result, shared_with)
        walk.note(entry)
        if result is not None:
            walk.results[entry.name] = result
            self._folder.write_result(walk.name, entry.name, result.model_dump(mode="json"))
        self._emit(
            StageFinished(
                release=walk.name, stage=entry.name, status=status, verdict=entry.verdict,
                detail=detail, seconds=seconds, time_s=time.time(), key=entry.key,
                shared_with=shared_with,
            )
        )  # fmt: skip

    def _finish(self, walk: Walk, error: BaseException | None, *, planned: bool = True) -> None:
        """The release has come to its end in this run; what cannot be planned goes on nowhere."""
        state, code, shown = "done", ExitCode.DONE, None
        if isinstance(error, RelforgeError):
            walk.error = error
            state, code, shown = "failed", error.code, str(error)
        elif isinstance(error, (Cancelled, KeyboardInterrupt)):
            state, code, shown = "interrupted", ExitCode.INTERRUPTED, str(error) or None
        elif error is not None:
            walk.bug = error
            state, code, shown = "failed", ExitCode.BUG, f"{type(error).__name__}: {error}"
        following = None if state == "done" else self._going_on
        if not planned and isinstance(error, RelforgeError):
            following = error.hint
        walk.entry = walk.entry.model_copy(
            update={
                "state": state, "exit_code": int(code), "error": shown, "next": following,
                "seconds": round(walk.seconds, 3),
            }
        )  # fmt: skip
        self._emit(
            ReleaseFinished(
                release=walk.name, state=walk.entry.state, exit_code=int(code), error=shown,
                next=following, seconds=walk.entry.seconds, time_s=time.time(),
            )
        )  # fmt: skip
        del self._active[walk.name]
        self._ended(walk)
        if state == "failed" and self._fail_fast:
            self._cancel.cancel(f"{walk.name} failed, and --fail-fast stops the others")

    # Small things

    @property
    def _run_id(self) -> str:
        return self._folder.path.name

    def _key(self, walk: Walk) -> str:
        """What work is the same: a stage by its key, or, of what is never shared, by release."""
        stage, key = walk.stage, walk.planned.key
        shared = stage.kept and not stage.check_only and key is not None
        return f"{stage.name} {key if shared else walk.name}"

    def _job(self, walk: Walk) -> Job[Any]:
        stage, planned = walk.stage, walk.planned
        assert planned.key is not None
        upstream = {name: walk.results[name] for name in stage.needs if name in walk.results}
        inputs = walk.plan.inputs[stage.name]
        secrets = stage.secrets(inputs, walk.plan.subject)
        return Job(stage.name, planned.key, inputs, upstream, self._env(walk), secrets)

    def _context(self, walk: Walk) -> StageContext:
        return StageContext(walk.name, walk.stage.name, self._cancel, self._emit)

    def _waits(self, walk: Walk, why: str) -> None:
        if walk.waits == why:
            return
        walk.waits = why
        name = "publish" if walk.at_end else walk.stage.name
        self._emit(StageWaiting(release=walk.name, stage=name, why=why, time_s=time.time()))

    def _log(self, walk: Walk) -> str | None:
        path = self._folder.log_path(walk.name, walk.stage.name)
        return str(path) if path.exists() else None
