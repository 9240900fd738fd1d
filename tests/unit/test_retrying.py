"""What is tried again, how often, and what is waited for."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import format_datetime

import pytest
import requests

from relforge import redact
from relforge.cancel import CancelToken
from relforge.errors import Cancelled
from relforge.retrying import (
    RETRIED_STATUSES,
    Again,
    RetryPolicy,
    TryAgain,
    call,
    judge_answer,
    judge_fault,
    retry_after_s,
)

FAST = RetryPolicy(attempts=4, first_wait_s=0.001, longest_wait_s=0.004)


def answered(status: int, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError(f"status {status}", response=response)


class Slept(CancelToken):
    """Notes what is waited for, and waits for none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)


def failing(*errors: BaseException) -> tuple[Callable[[], str], list[int]]:
    left, calls = list(errors), [0]

    def action() -> str:
        calls[0] += 1
        if left:
            raise left.pop(0)
        return "done"

    return action, calls


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_answers_are_tried_again(status: int) -> None:
    action, calls = failing(answered(status), answered(status))
    assert call(action, policy=FAST) == "done"
    assert calls == [3]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 416, 422, 501, 505])
def test_other_answers_are_final(status: int) -> None:
    action, calls = failing(answered(status))
    with pytest.raises(requests.HTTPError):
        call(action, policy=FAST)
    assert calls == [1]
    assert status not in RETRIED_STATUSES


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("reset"),
        requests.ReadTimeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut"),
        ConnectionResetError("reset"),
        TimeoutError(),
        TryAgain("the registry is not in step yet"),
    ],
)
def test_faults_of_the_connection_are_tried_again(error: Exception) -> None:
    action, calls = failing(error)
    assert call(action, policy=FAST) == "done"
    assert calls == [2]


def test_a_refused_certificate_is_final_however_it_is_wrapped() -> None:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    for error in (requests.exceptions.SSLError(inner), requests.ConnectionError(inner), inner):
        assert judge_fault(error) is None
    assert judge_fault(ValueError("a mistake of ours")) is None
    assert judge_fault(FileNotFoundError("no such file")) is None


def test_faults_of_the_hubs_http_library() -> None:
    library = pytest.importorskip("httpx2")
    assert judge_fault(library.ConnectError("refused")) is not None
    assert judge_fault(library.ReadTimeout("slow")) is not None
    assert judge_fault(library.UnsupportedProtocol("ftp")) is None


def test_attempts_end_and_the_last_fault_is_told() -> None:
    errors = [answered(503) for _ in range(9)]
    action, calls = failing(*errors)
    with pytest.raises(requests.HTTPError) as caught:
        call(action, policy=FAST)
    assert calls == [FAST.attempts]
    assert caught.value is errors[FAST.attempts - 1]


def test_a_judge_is_asked_once_for_each_failure() -> None:
    asked: list[BaseException] = []
    errors = [ValueError("one"), ValueError("two"), ValueError("three")]

    def judge(error: BaseException) -> Again | None:
        asked.append(error)
        return Again("it may go better") if len(asked) < 3 else None

    action, _ = failing(*errors)
    with pytest.raises(ValueError, match="three"):
        call(action, policy=FAST, judge=judge)
    assert asked == errors


def test_waits_double_up_to_a_limit_and_have_chance_in_them() -> None:
    token = Slept()
    action, _ = failing(*[answered(500)] * 7)
    call(action, policy=RetryPolicy(attempts=8, first_wait_s=1, longest_wait_s=8), cancel=token)
    for waited, least in zip(token.waits_s, (1, 2, 4, 8, 8, 8, 8), strict=True):
        assert least <= waited <= least + 1
    assert len(set(token.waits_s)) > 1


def test_the_servers_seconds_and_date_are_waited_for() -> None:
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=41)
    token = Slept()
    action, _ = failing(
        answered(429, Retry_After="17"),
        answered(503, Retry_After=format_datetime(later, usegmt=True)),
        answered(429, Retry_After="soon"),
    )
    call(action, policy=RetryPolicy(first_wait_s=0.5), cancel=token)
    seconds, date, nonsense = token.waits_s
    assert 17 <= seconds <= 17.5
    assert 39 <= date <= 41.5
    assert 2 <= nonsense <= 2.5


def test_a_server_that_asks_for_hours_is_not_waited_for() -> None:
    token = Slept()
    action, calls = failing(answered(429, Retry_After="7200"))
    with pytest.raises(requests.HTTPError):
        call(action, cancel=token)
    assert (calls, token.waits_s) == ([1], [])


def test_all_waits_together_are_bounded() -> None:
    token = Slept()
    action, _ = failing(*[answered(429, Retry_After="100")] * 9)
    with pytest.raises(requests.HTTPError):
        call(action, policy=RetryPolicy(attempts=9, total_wait_s=250), cancel=token)
    assert len(token.waits_s) == 2


def test_retry_after_as_servers_write_it() -> None:
    assert retry_after_s("3") == 3
    assert retry_after_s(" 3 ") == 3
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [retry_after_s(value) for value in (None, "", "a while", "-1")] == [None] * 4
    again = judge_answer(429, requests.structures.CaseInsensitiveDict({"retry-after": "9"}))
    assert again is not None
    assert again.after_s == 9


def test_a_cancelled_wait_ends_at_once() -> None:
    token = CancelToken()
    action, calls = failing(answered(503, Retry_After="60"))
    timer = threading.Timer(0.05, token.cancel, ["Ctrl-C"])
    timer.start()
    began_s = time.monotonic()
    with pytest.raises(Cancelled):
        call(action, cancel=token)
    timer.join()
    assert calls == [1]
    assert time.monotonic() - began_s < 30
    with pytest.raises(Cancelled):
        call(action, cancel=token)
    assert calls == [1]


def test_each_wait_is_told_without_secrets() -> None:
    redact.register("hunter2hunter2")
    said: list[str] = []
    action, _ = failing(requests.ConnectionError("https://me:hunter2hunter2@host: reset"))
    call(action, policy=FAST, line=said.append)
    assert len(said) == 1
    assert "attempt 2 of 4" in said[0]
    assert "hunter2" not in said[0]
