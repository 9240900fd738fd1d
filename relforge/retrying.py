"""What is tried again over a network, how often, and how long is waited: one policy for all.

Tried again are answers 429, 500, 502, 503 and 504 and faults of the connection. Never: any other
answer (a login that is missing does not come by waiting), and a certificate that is not accepted.
A server that says when to come back (``Retry-After``, in seconds or as a date: RFC 9110, 10.2.3) is
believed; where it asks for more patience than the policy has, nothing is waited for at all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from relforge import redact
from relforge.cancel import CancelToken

T = TypeVar("T")

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
# By name, so that libraries that are not installed, or not in use, are not imported.
_FAULTS = {
    "requests.exceptions": {"ConnectionError", "Timeout", "ChunkedEncodingError"},
    "urllib3.exceptions": {"ProtocolError", "TimeoutError", "NewConnectionError"},
    "http.client": {"IncompleteRead", "BadStatusLine"},
    "httpx": {"TransportError"},
    "httpx2": {"TransportError"},
    "builtins": {"ConnectionError", "TimeoutError"},
}
_NEVER = {
    "requests.exceptions": {"SSLError", "InvalidURL", "InvalidSchema", "MissingSchema"},
    "urllib3.exceptions": {"SSLError"},
    "httpx": {"UnsupportedProtocol"},
    "httpx2": {"UnsupportedProtocol"},
    "ssl": {"SSLCertVerificationError"},
}


@dataclass(frozen=True)
class RetryPolicy:
    """``attempts`` counts the first one; waits double from ``first_wait_s`` to ``longest_wait_s``,
    with as much as ``first_wait_s`` added by chance. ``hint_limit_s`` is the longest wait that a
    server may ask for, ``total_wait_s`` bounds all waits of one call together."""

    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    hint_limit_s: float = 120.0
    total_wait_s: float = 300.0


POLICY = RetryPolicy()


@dataclass(frozen=True)
class Again:
    """That something is worth another attempt. ``after_s`` is the server's own word for when."""

    why: str
    after_s: float | None = None


class TryAgain(Exception):
    """Raised by an action whose failure the caller knows to be a passing one."""

    def __init__(self, why: str, *, after_s: float | None = None) -> None:
        super().__init__(why)
        self.again = Again(why, after_s)


Judge = Callable[[BaseException], "Again | None"]


def call(
    action: Callable[[], T],
    *,
    policy: RetryPolicy = POLICY,
    judge: Judge | None = None,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> T:
    """What ``action`` returns, after as many attempts as the policy allows.

    ``judge`` says of an exception whether it is worth another attempt (default: ``judge_fault``);
    it is asked once for each attempt that failed.
    Raises what the last attempt raised; Cancelled as soon as the token is set, also while waiting.
    """
    from tenacity import RetryCallState, Retrying

    asked = judge or judge_fault

    answers: dict[int, Again | None] = {}

    def again_of(state: RetryCallState) -> Again | None:
        # Once for each attempt: a judge may take note of what failed.
        if state.attempt_number not in answers:
            error = state.outcome.exception() if state.outcome is not None else None
            found = asked(error) if isinstance(error, Exception) else None
            answers[state.attempt_number] = found
        return answers[state.attempt_number]

    def pause(state: RetryCallState) -> float:
        again = again_of(state)
        return _pause_s(policy, state.attempt_number, again.after_s if again else None)

    def enough(state: RetryCallState) -> bool:
        if state.attempt_number >= policy.attempts:
            return True
        again = again_of(state)
        if again is not None and (again.after_s or 0) > policy.hint_limit_s:
            return True
        return state.idle_for + state.upcoming_sleep > policy.total_wait_s

    def told(state: RetryCallState) -> None:
        if (again := again_of(state)) is not None:
            line(
                redact.text(
                    f"{again.why}; attempt {state.attempt_number + 1} of {policy.attempts} in "
                    f"{state.upcoming_sleep:.1f} s"
                )
            )

    def checked() -> T:
        if cancel is not None:
            cancel.check()
        return action()

    return Retrying(
        retry=lambda state: again_of(state) is not None,
        wait=pause,
        stop=enough,
        sleep=time.sleep if cancel is None else cancel.sleep,
        before_sleep=told,
        reraise=True,
    )(checked)


def judge_fault(error: BaseException) -> Again | None:
    """Whether a client library's exception is a passing fault.

    Understands those of requests, urllib3, httpx (under both its names) and huggingface_hub, and
    an exception of any library that carries the ``response``, with ``status_code`` and ``headers``.
    """
    if isinstance(error, TryAgain):
        return error.again
    response = getattr(error, "response", None)
    if response is not None and isinstance(getattr(response, "status_code", None), int):
        return judge_answer(response.status_code, response.headers)
    if _is_one_of(error, _NEVER) or _untrusted(error):
        return None
    if _is_one_of(error, _FAULTS):
        return Again(_in_short(error))
    return None


def _in_short(error: BaseException) -> str:
    """What happened, without the addresses and objects that libraries wrap around it."""
    inner: object = error
    for _ in range(8):
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        deeper = getattr(inner, "reason", None) or getattr(inner, "__cause__", None)
        if deeper is None and isinstance(inner, BaseException):
            deeper = next((one for one in inner.args if isinstance(one, BaseException)), None)
        if not isinstance(deeper, BaseException):
            break
        inner = deeper
    found = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)", str(inner))
    return found[1] if found else f"{type(inner).__name__}: {inner}"[:200]


def judge_answer(status: int, headers: Any) -> Again | None:
    """Whether an HTTP answer asks for another attempt; ``headers`` is a case-blind mapping."""
    if status not in RETRIED_STATUSES:
        return None
    return Again(f"HTTP {status}", retry_after_s(headers.get("Retry-After")))


def retry_after_s(value: str | None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for; None without one, or for nonsense."""
    if not value:
        return None
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return max(0.0, float(Retry().parse_retry_after(value.strip())))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _pause_s(policy: RetryPolicy, attempt: int, after_s: float | None) -> float:
    """How long to wait after the ``attempt``-th try (1 is the first)."""
    import random

    # Many clients that were turned away together are not to come back together.
    by_chance = random.uniform(0, policy.first_wait_s)  # noqa: S311
    doubled: float = policy.first_wait_s * 2.0 ** (attempt - 1)
    own = min(policy.longest_wait_s, doubled) + by_chance
    return own if after_s is None else max(after_s + by_chance, min(own, policy.first_wait_s))


def _untrusted(error: BaseException) -> bool:
    """Whether a certificate was refused below it: libraries wrap that in plain faults."""
    seen: set[int] = set()
    asked: list[object] = [error]
    while asked:
        one = asked.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if _is_one_of(one, {"ssl": {"SSLCertVerificationError"}}):
            return True
        asked += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return False


def _is_one_of(error: BaseException, names: dict[str, set[str]]) -> bool:
    for kind in type(error).__mro__:
        # httpx shows its exceptions as ``httpx.X``, wherever they are defined.
        module = kind.__module__.split("._", 1)[0]
        if kind.__name__ in names.get(module, ()):
            return True
    return False
