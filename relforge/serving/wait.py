"""Waiting until a server is ready: it ends with the server, not with the time limit."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol

from relforge.cancel import CancelToken
from relforge.engine.containers import ContainerState
from relforge.errors import ExitCode, RelforgeError
from relforge.serving.client import OpenAIClient, ServerFault
from relforge.serving.diagnosis import diagnose, last_words
from relforge.serving.report import Cause

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
_PROBE_TIMEOUT_S = 2.0


class ServerProcess(Protocol):
    """What is known of the process behind a URL; engine.containers.Container is one."""

    @property
    def exited(self) -> threading.Event: ...

    @property
    def log_path(self) -> Path: ...

    def state(self) -> ContainerState: ...

    def log_text(self) -> str: ...


class NotReady(RelforgeError):
    """The server ended, or was not ready in time. ``cause`` is None for an unknown one."""

    def __init__(self, what: str, *, why: str, hint: str, log: str, cause: Cause | None) -> None:
        super().__init__(what, code=ExitCode.GATE, why=why, hint=hint, log=log)
        self.cause = cause

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.why, self.hint, self.log, self.cause)


def _rebuild(what: str, why: str, hint: str, log: str, cause: Cause | None) -> NotReady:
    return NotReady(what, why=why, hint=hint, log=log, cause=cause)


def wait_ready(
    process: ServerProcess,
    client: OpenAIClient,
    *,
    health_path: str,
    timeout_s: float,
    cancel: CancelToken,
    any_status: bool = False,
) -> float:
    """Returns the seconds it took until ``health_path`` answered 200; with ``any_status``, until it
    answered at all.

    Asks after 50 ms, then less often, at most every 500 ms. Raises NotReady as soon as the process
    has ended or the time is up, and Cancelled when the token is set.
    """
    started = time.monotonic()
    pause_s = _FIRST_PAUSE_S
    answer = "it was not asked yet"
    while True:
        cancel.check()
        ended = process.exited.wait(pause_s)
        cancel.check()
        if ended:
            raise _ended(process)
        left_s = timeout_s - (time.monotonic() - started)
        if left_s <= 0:
            raise _too_late(process, timeout_s, answer)
        try:
            client.get(health_path, timeout_s=min(_PROBE_TIMEOUT_S, left_s))
        except ServerFault as fault:
            if any_status and fault.kind == "status":
                return time.monotonic() - started
            answer = fault.what
        else:
            return time.monotonic() - started
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _ended(process: ServerProcess) -> NotReady:
    state, log = process.state(), process.log_text()
    cause = diagnose(log, state)
    return _not_ready(f"the server {state.shown()} before it was ready", process, cause, log)


def _too_late(process: ServerProcess, timeout_s: float, answer: str) -> NotReady:
    log = process.log_text()
    what = f"the server was not ready within {timeout_s:g} s (last answer: {answer})"
    return _not_ready(what, process, diagnose(log, process.state(), answer), log)


def _not_ready(what: str, process: ServerProcess, cause: Cause | None, log: str) -> NotReady:
    if cause is not None:
        why = f"{cause.explanation} [{cause.id}]\n{cause.evidence}"
        hint = cause.remedy
    else:
        why = last_words(log)
        hint = f"read the server's log: {process.log_path}"
    return NotReady(what, why=why, hint=hint, log=str(process.log_path), cause=cause)
