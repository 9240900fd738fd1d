"""What a server may say to a question, and what ends an evaluation; how the child's faults end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode
from relforge.evaluation.answers import Answer
from relforge.evaluation.harness.driver import worker_error
from relforge.evaluation.harness.model import ServerFaultError, finish_of, text_of
from tests.support.completions import said


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_an_answer_says_why_it_ended(chat: bool, finish: str | None) -> None:
    assert finish_of(said("12", chat=chat, finish=finish), chat) == finish
    assert finish_of(said("", chat=chat, finish=finish), chat) == finish


def test_a_chat_answer_without_content_is_an_empty_one() -> None:
    # All tokens went into thinking: lm-eval's own client has an empty text then, too.
    assert finish_of(said(None, chat=True, finish="length"), True) == "length"


BAD: list[Any] = [
    {"error": {"message": "EngineCore encountered an issue", "code": 500}},
    {"object": "error", "message": "out of memory"},
    {},
    [],
    "Internal Server Error",
    None,
    {"choices": []},
    {"choices": None},
    {"choices": ["124"]},
    {"choices": [{"index": 0, "text": "1"}, {"index": 1, "text": "2"}]},
    {"choices": [{"index": 0}]},
    {"choices": [{"index": 0, "text": None, "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "text": ["124"], "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
    *(said("12", finish=finish) for finish in ("abort", "error", "content_filter")),
]


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_answer_ends_the_evaluation(body: Any) -> None:
    with pytest.raises(ServerFaultError):
        finish_of(body, False)


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_chat_answer_ends_the_evaluation(body: Any) -> None:
    with pytest.raises(ServerFaultError):
        finish_of(body, True)


def test_a_text_keeps_why_it_ended() -> None:
    text = text_of(Answer("12", "length"))
    assert (text, text.finish, isinstance(text, str)) == ("12", "length", True)


@pytest.mark.parametrize(
    ("kind", "code", "what"),
    [
        ("missing", ExitCode.ENVIRONMENT, "evaluating needs lm-eval"),
        ("task", ExitCode.USAGE, "the task cannot be asked like this"),
        ("unsupported", ExitCode.USAGE, "the task cannot be asked like this"),
        ("dataset", ExitCode.SOURCE, "a dataset cannot be had"),
        ("server", ExitCode.GATE, "the server stopped answering during the evaluation"),
        ("crash", ExitCode.GATE, "lm-eval crashed"),
    ],
)
def test_each_fault_of_the_child_has_its_exit_code(kind: str, code: ExitCode, what: str) -> None:
    fault = {"kind": kind, "type": "SomeError", "text": "because", "hint": "do this"}
    error = worker_error(fault, "http://h:1/v1/completions", Path("lm-eval.log"))
    assert (error.code, error.what, error.log) == (code, what, "lm-eval.log")
    assert "because" in (error.why or "")
    assert error.hint
    assert (error.hint == "do this") == (kind in ("task", "unsupported"))
