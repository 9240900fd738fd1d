"""One job in a worker's thread: its result, or why there is none; retries and time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import Event, StageRetried, StageStarted, StageWaiting
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


class Clock:
    """Cancels a token when ``limit_s`` is over since somebody began to work; None: never."""

    def __init__(self, limit_s: float | None, token: CancelToken) -> None:
        self._limit_s, self._token = limit_s, token
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """From the beginning, also where it was running."""
        self.stop()
        if self._limit_s is not None:
            self._timer = threading.Timer(self._limit_s, self._token.cancel, ("time limit",))
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """Nobody works now."""
        if self._timer is not None:
            self._timer.cancel()


Attempt = Callable[[CancelToken, Clock], Done]


def tried(
    limits: StageLimits,
    release: str,
    stage: str,
    cancel: CancelToken,
    emit: Callable[[Event], None],
    attempt: Attempt,
) -> Done:
    """Attempts of a stage, or of a part of one, as its limits say. Raises what the last attempt
    raises, and RelforgeError (ENVIRONMENT) when it took too long."""
    of = limits.retries + 1
    for number in range(1, of + 1):
        cancel.check()
        try:
            return _within(limits.timeout_s, stage, cancel, attempt)
        except RelforgeError as error:
            if error.code not in _TRIED_AGAIN or number == of:
                raise
            emit(
                StageRetried(
                    release=release, stage=stage, attempt=number + 1, of=of, why=error.what,
                    time_s=time.time(),
                )
            )  # fmt: skip
            cancel.sleep(limits.retry_wait_s * 2 ** (number - 1))
    raise AssertionError("the last attempt returns or raises")


def _within(
    limit_s: float | None,
    stage: str,
    cancel: CancelToken,
    attempt: Attempt,
) -> Done:
    """One attempt, within its time limit. Waiting for a lock or a host does not count."""
    own = cancel.child()
    clock = Clock(limit_s, own)
    try:
        return attempt(own, clock)
    except Cancelled:
        if cancel.cancelled or limit_s is None:
            raise
        raise RelforgeError(
            f"{stage} took longer than its time limit",
            code=ExitCode.ENVIRONMENT,
            why=f"the limit is {limit_s:g} s",
            hint=f"find out what it waited for, or raise limits.{stage}.timeout_s "
            "of the release's manifest",
        ) from None
    finally:
        clock.stop()


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

        def attempt(own: CancelToken, clock: Clock) -> Done:
            return self._once(executor, store, own, emit, clock)

        return tried(self.limits, self.job.env.release, self.stage.name, cancel, emit, attempt)

    def _once(
        self,
        executor: Executor,
        store: Store,
        cancel: CancelToken,
        emit: Callable[[Event], None],
        clock: Clock,
    ) -> Done:
        stage, job = self.stage, self.job
        sent = executor.sends(stage, job)

        def heard(event: Event) -> None:
            if sent and isinstance(event, StageStarted):
                clock.start()  # a host has it now
            elif sent and isinstance(event, StageWaiting):
                clock.stop()  # that host is lost
            emit(event)

        ctx = StageContext(job.env.release, stage.name, cancel, heard)
        if stage.check_only or not stage.kept:
            if not sent:
                clock.start()
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
            if not sent:
                clock.start()
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
