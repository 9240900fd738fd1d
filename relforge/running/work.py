"""One job in a worker's thread: its result, or why there is none; retries and time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import Event, StageRetried, StageWaiting
from relforge.evidence.store import Miss, Store
from relforge.executor.local import Executor
from relforge.files import held_lock
from relforge.manifest.limits import StageLimits
from relforge.plan import Subject
from relforge.stage import Job, Stage, StageContext, StageResult

_TRIED_AGAIN = (ExitCode.ENVIRONMENT, ExitCode.SOURCE, ExitCode.BUILD, ExitCode.PUBLISH)
"""Failures that may go away. A gate that failed, or a manifest that is wrong, does not."""


@dataclass(frozen=True)
class Done:
    """``found``: another run had made the result while this one waited for its lock."""

    result: StageResult
    found: bool = False


@dataclass(frozen=True)
class StageWork:
    """A stage of a release, ready to run. ``forced``: whatever the store has."""

    stage: Stage[Any, Any]
    job: Job[Any]
    subject: Subject
    limits: StageLimits
    forced: bool = False

    def run(
        self,
        executor: Executor,
        store: Store,
        cancel: CancelToken,
        emit: Callable[[Event], None],
    ) -> Done:
        """Raises what the stage raises, and RelforgeError (ENVIRONMENT) when it took too long."""
        release, name = self.job.env.release, self.stage.name
        of = self.limits.retries + 1
        for attempt in range(1, of + 1):
            cancel.check()
            try:
                return self._within(executor, store, cancel, emit)
            except RelforgeError as error:
                if error.code not in _TRIED_AGAIN or attempt == of:
                    raise
                emit(
                    StageRetried(
                        release=release, stage=name, attempt=attempt + 1, of=of,
                        why=error.what, time_s=time.time(),
                    )
                )  # fmt: skip
                cancel.sleep(self.limits.retry_wait_s * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _within(
        self,
        executor: Executor,
        store: Store,
        cancel: CancelToken,
        emit: Callable[[Event], None],
    ) -> Done:
        """One attempt, within the stage's time limit."""
        limit_s = self.limits.timeout_s
        if limit_s is None:
            return self._once(executor, store, cancel, emit)
        own = cancel.child()
        timer = threading.Timer(limit_s, own.cancel, ("time limit",))
        timer.daemon = True
        timer.start()
        try:
            return self._once(executor, store, own, emit)
        except Cancelled:
            if cancel.cancelled:
                raise
            raise RelforgeError(
                f"{self.stage.name} took longer than its time limit",
                code=ExitCode.ENVIRONMENT,
                why=f"the limit is {limit_s:g} s",
                hint=f"find out what it waited for, or raise limits.{self.stage.name}.timeout_s "
                "of the release's manifest",
            ) from None
        finally:
            timer.cancel()

    def _once(
        self,
        executor: Executor,
        store: Store,
        cancel: CancelToken,
        emit: Callable[[Event], None],
    ) -> Done:
        stage, job = self.stage, self.job
        ctx = StageContext(job.env.release, stage.name, cancel, emit)
        if stage.check_only or not stage.kept:
            return Done(executor.execute(stage, job, ctx))
        lock = store.root / "locks" / f"{stage.name}-{job.key[:32]}"
        purpose = f"{stage.name} of {job.env.release}"

        def told(text: str) -> None:
            ctx.line(text)
            why = f"for {text.removeprefix('waiting: ')}"
            emit(
                StageWaiting(
                    release=job.env.release, stage=stage.name, why=why, time_s=time.time()
                )
            )  # fmt: skip

        with held_lock(lock, purpose=purpose, on_wait=told, cancel=cancel):
            if (known := self._known(store)) is not None:
                return Done(known, found=True)
            started = time.monotonic()
            result = executor.execute(stage, job, ctx)
            if result.verdict in (None, "pass", "not-run"):
                store.save(
                    stage=stage.name,
                    key=job.key,
                    inputs=job.inputs,
                    result=result,
                    seconds=time.monotonic() - started,
                    run_id=job.env.run_id,
                )
        return Done(result)

    def _known(self, store: Store) -> StageResult | None:
        found = store.lookup(self.stage.name, self.job.key)
        if isinstance(found, Miss):
            return None
        if self.forced and found.run_id != self.job.env.run_id:
            return None  # what this very run has made, before it was stopped, counts
        known = self.stage.result_type.model_validate(found.result)
        assert isinstance(known, StageResult)
        return known if self.stage.unusable(known, self.subject) is None else None
