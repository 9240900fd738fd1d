"""What workers tell while jobs run: which host began one, and events, passed on as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from relforge.events import EVENT, StageStarted, StageWaiting
from relforge.executor.ray_desk import Begun, Told
from relforge.stage import StageContext

_ASK_S = 5.0
"""So long the desk waits for news before it says that there are none."""
_LOOK_S = 0.3


class Listener:
    """The driver's ear for one job."""

    def __init__(self, ctx: StageContext) -> None:
        self._ctx = ctx
        self._lock = threading.Lock()
        self._begun: Begun | None = None
        self.failed: Exception | None = None
        """What this side could not do with its news, such as write them to a full disk."""

    @property
    def host(self) -> Begun | None:
        """Where the job runs, as far as was told; None: nowhere yet, or no more."""
        return self._begun

    def begin(self, begun: Begun) -> None:
        ctx = self._ctx
        with self._lock:
            before, self._begun = self._begun, begun
            if before is not None:
                # Ray was quicker than who looks whether hosts are alive.
                lost = f"host {before.host} was lost"
                if before.node_id == begun.node_id:
                    lost = f"its process on {before.host} was lost"
                ctx.line(f"{lost}; the job begins anew on {begun.host}")
            ctx.emit(
                StageStarted(
                    release=ctx.release, stage=ctx.stage, time_s=time.time(), host=begun.host
                )
            )

    def lost(self, begun: Begun) -> bool:
        """That host is gone. False: the job has begun on another one since.

        What both tell comes in the order in which it was: a time limit stops here.
        """
        ctx = self._ctx
        with self._lock:
            if self._begun is not begun:
                return False
            self._begun = None
            why = f"for a host in the place of {begun.host}, which was lost"
            ctx.emit(
                StageWaiting(release=ctx.release, stage=ctx.stage, why=why, time_s=time.time())
            )
            return True

    def pass_on(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self._ctx.emit(EVENT.validate_python(event))


class News:
    """One thread that asks the desk for news and hands them to the jobs' listeners."""

    def __init__(self, ray: Any, desk: Any) -> None:
        self._ray, self._desk = ray, desk
        self._listeners: dict[str, Listener] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relforge-news", daemon=True)
        self._thread.start()

    def listen(self, job: str, ctx: StageContext) -> Listener:
        listener = self._listeners[job] = Listener(ctx)
        return listener

    def forget(self, job: str) -> None:
        self._listeners.pop(job, None)

    def stop(self) -> None:
        """Returns when nothing of it asks Ray any more: who waits for an answer while Ray is shut
        down takes the whole process along (SIGSEGV)."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        from ray.exceptions import GetTimeoutError, RayError

        asked = None
        while not self._stopped.is_set():
            try:
                if asked is None:
                    asked = self._desk.news.remote(_ASK_S)
                news: list[Begun | Told] = self._ray.get(asked, timeout=_LOOK_S)
            except GetTimeoutError:
                continue
            except RayError:
                return  # the desk is gone, and every job with it
            asked = None
            for one in news:
                listener = self._listeners.get(one.job)
                if listener is None:
                    continue
                try:
                    if isinstance(one, Begun):
                        listener.begin(one)
                    else:
                        listener.pass_on(one.events)
                except Exception as error:  # noqa: BLE001 (of one job, which its waiter judges)
                    listener.failed = listener.failed or error
