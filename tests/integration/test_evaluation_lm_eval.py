"""The lm-eval driver: the real lm-eval against a small server of our own, and every way it ends.

Tests marked ``lm_eval`` start the real tool (extra ``eval``); the others replace one library of
the child process, or read an answer that the child could have given.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.evaluation.compare import compare
from relforge.evaluation.evidence import load_reference
from relforge.evaluation.harness.driver import LmEval, child_env, endpoint_url
from relforge.evaluation.harness.reading import result_of
from relforge.evaluation.interface import EvaluationRequest
from relforge.evaluation.oddities import oddities
from relforge.evaluation.task import Question, Task, read_questions, read_task, select

PROJECT = Path(__file__).resolve().parents[2]
TASK_FILE = PROJECT / "examples" / "tasks" / "tiny_adder_addition.yaml"
REFERENCE = PROJECT / "examples" / "tiny-adder" / "reference.json"
HAS_LM_EVAL = "RELFORGE_ALL_TESTS" in os.environ or importlib.util.find_spec("lm_eval") is not None


def needs_lm_eval(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that runs the real tool, which takes it seconds to import."""
    skip = pytest.mark.skipif(not HAS_LM_EVAL, reason="extra 'eval' is not installed")
    marked: Callable[..., None] = pytest.mark.lm_eval(pytest.mark.timeout(300)(skip(test)))
    return marked


# ---------------------------------------------------------------- a server


class Server(ThreadingHTTPServer):
    """A completions endpoint; ``reply`` maps a prompt to a text, or to (status, body)."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, reply: Callable[[str], str | tuple[int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **body})
        self.server.headers.append(dict(self.headers))
        reply = self.server.reply(body["prompt"])
        if isinstance(reply, str):
            choice = {"index": 0, "text": reply, "finish_reason": "stop"}
            reply = 200, json.dumps({"choices": [choice]}).encode()
        status, data = reply
        kind = "application/json" if data.startswith(b"{") else "text/html"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(reply: Callable[[str], str | tuple[int, bytes]]) -> Iterator[Server]:
    with Server(reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def total(prompt: str) -> str:
    a, b = prompt.removesuffix("=").split("+")
    return str(int(a) + int(b))


def request(n: int, **changes: Any) -> EvaluationRequest:
    return EvaluationRequest(task=read_task(TASK_FILE), task_file=TASK_FILE, n=n, **changes)


def chosen(n: int, seed: int = 0) -> tuple[Question, ...]:
    questions = read_questions(TASK_FILE, read_task(TASK_FILE))
    return tuple(questions[i] for i in select(questions, n, seed))


# ---------------------------------------------------------------- the real lm-eval


@needs_lm_eval
def test_outcomes_are_exactly_what_the_server_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    asked = chosen(60, seed=4)
    wrong = {asked[3].question: "7", asked[10].question: "", asked[59].question: " 12\n"}
    right_but_padded = asked[20].question

    def reply(prompt: str) -> str:
        if prompt == right_but_padded:
            return f" {total(prompt)}"
        return wrong.get(prompt, total(prompt))

    with serving(reply) as server:
        done = LmEval(tmp_path).evaluate(server.url, "tiny-adder", request(60, seed=4))
    got = done.result

    assert [o.id for o in got.outcomes] == [q.id for q in asked]
    assert [o.question for o in got.outcomes] == [q.question for q in asked]
    assert [o.answer for o in got.outcomes] == [reply(q.question) for q in asked]
    assert {o.question for o in got.outcomes if not o.correct} == {*wrong, right_but_padded}
    assert (got.k, got.n) == (56, 60)
    assert (got.settings.tool, got.settings.n, got.settings.seed) == ("lm-eval", 60, 4)
    assert got.settings.tool_version.startswith("0.4.")

    assert len(server.requests) == 60
    sent = server.requests[0]
    del sent["prompt"]
    assert sent == {
        "path": "/v1/completions",
        "model": "tiny-adder",
        "max_tokens": 8,
        "temperature": 0.0,
        "stop": ["<|endoftext|>", "\n"],
        "seed": 4,
    }
    assert not any("sk-of-the-user" in str(headers) for headers in server.headers)

    reference = load_reference(REFERENCE, task="tiny_adder_addition")
    verdict = compare(reference.only(o.id for o in got.outcomes), got, margin_points=2)
    assert verdict.result_correct == 56


@needs_lm_eval
def test_a_server_that_dies_midway_gives_no_result(tmp_path: Path) -> None:
    answered = 0
    lock = threading.Lock()

    def reply(prompt: str) -> str | tuple[int, bytes]:
        nonlocal answered
        with lock:
            answered += 1
            alive = answered <= 20
        return total(prompt) if alive else (500, b"the engine died")

    with serving(reply) as server, pytest.raises(RelforgeError) as caught:
        LmEval(tmp_path).evaluate(server.url, "tiny-adder", request(40, concurrency=4))
    assert caught.value.what == "the server stopped answering during the evaluation"
    assert caught.value.code is ExitCode.GATE
    assert caught.value.where == server.url + "/v1/completions"
    assert "500" in (caught.value.why or "")
    assert "the engine died" in (tmp_path / "lm-eval.log").read_text()


@needs_lm_eval
def test_a_server_that_is_gone_gives_no_result(tmp_path: Path) -> None:
    with serving(total) as server:
        url = server.url
    with pytest.raises(RelforgeError, match="stopped answering") as caught:
        LmEval(tmp_path).evaluate(url, "tiny-adder", request(5))
    assert "Connect" in (caught.value.why or "")


@needs_lm_eval
@pytest.mark.parametrize("body", [b'{"choices": []}', b"<html>"])
def test_a_server_that_answers_rubbish_gives_no_result(tmp_path: Path, body: bytes) -> None:
    with serving(lambda _: (200, body)) as server, pytest.raises(RelforgeError) as caught:
        LmEval(tmp_path).evaluate(server.url, "tiny-adder", request(5))
    assert caught.value.code is ExitCode.GATE
    assert caught.value.log == str(tmp_path / "lm-eval.log")


@needs_lm_eval
def test_empty_and_cut_answers_are_wrong_and_told_apart(tmp_path: Path) -> None:
    asked = chosen(12)
    empty, cut = asked[2].question, asked[7].question

    def reply(prompt: str) -> str | tuple[int, bytes]:
        text = "" if prompt == empty else "1" if prompt == cut else total(prompt)
        finish = "length" if prompt == cut else "stop"
        choice = {"index": 0, "text": text, "finish_reason": finish}
        return 200, json.dumps({"choices": [choice]}).encode()

    with serving(reply) as server:
        got = LmEval(tmp_path).evaluate(server.url, "tiny-adder", request(12)).result
    assert {o.question for o in got.outcomes if o.cut} == {cut}
    assert {o.question for o in got.outcomes if not o.correct} == {empty, cut}
    found = oddities(got)
    assert (found.empty, found.cut) == (1, 1)


@needs_lm_eval
def test_an_error_in_place_of_an_answer_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    count = 0

    def reply(prompt: str) -> str | tuple[int, bytes]:
        nonlocal count
        count += 1
        error = b'{"error": {"message": "EngineCore encountered an issue", "code": 500}}'
        return total(prompt) if count <= 20 else (200, error)

    kept = tmp_path / "kept" / "answers.jsonl"
    evaluator = LmEval(tmp_path, answers=kept, identity="image A")
    with serving(reply) as server, pytest.raises(RelforgeError) as caught:
        evaluator.evaluate(server.url, "tiny-adder", request(40, concurrency=1))
    assert caught.value.code is ExitCode.GATE
    assert "EngineCore encountered an issue" in (caught.value.why or "")
    # A server that fails on the way has to answer everything when it is asked again.
    assert not kept.exists()


@needs_lm_eval
def test_what_was_answered_before_an_interruption_is_not_asked_again(tmp_path: Path) -> None:
    token = CancelToken()
    kept = tmp_path / "kept" / "answers.jsonl"
    evaluator = LmEval(tmp_path, answers=kept, identity="image A")
    again: list[str] = []

    def interrupts(prompt: str) -> str:
        if len(server.requests) > 25:
            token.cancel("stopped by the test")
        return total(prompt)

    asked = request(60, concurrency=2)
    with serving(interrupts) as server, pytest.raises(Cancelled):
        evaluator.evaluate(server.url, "tiny-adder", asked, cancel=token)
    before = len(kept.read_text().splitlines()) - 1
    assert before >= 20

    def remembers(prompt: str) -> str:
        again.append(prompt)
        return total(prompt)

    with serving(remembers) as server:
        other = LmEval(tmp_path / "other", answers=tmp_path / "copy.jsonl", identity="image B")
        other.work.mkdir()
        (tmp_path / "copy.jsonl").write_bytes(kept.read_bytes())
        done = evaluator.evaluate(server.url, "tiny-adder", asked)
        assert done.from_earlier == before
        assert len(again) == len(set(again)) == 60 - before
        assert (done.result.k, done.result.seconds) == (60, None)
        assert other.evaluate(server.url, "tiny-adder", asked).from_earlier == 0


@needs_lm_eval
def test_cancelling_ends_lm_eval_at_once(tmp_path: Path) -> None:
    token = CancelToken()
    release = threading.Event()

    def reply(prompt: str) -> str:
        token.cancel("stopped by the test")
        release.wait(30)
        return total(prompt)

    with serving(reply) as server:
        try:
            with pytest.raises(Cancelled, match="stopped by the test"):
                LmEval(tmp_path).evaluate(server.url, "tiny-adder", request(20), cancel=token)
        finally:
            release.set()
    assert not (tmp_path / "answer.json").exists()


# ---------------------------------------------------------------- a child that fails


def _replace_aiohttp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "aiohttp.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(modules))


@pytest.mark.parametrize(
    ("code", "what", "exit_code"),
    [
        ("raise ModuleNotFoundError('none')", "evaluating needs lm-eval", ExitCode.ENVIRONMENT),
        ("raise RuntimeError('boom')", "lm-eval crashed", ExitCode.GATE),
        ("import os; os.abort()", "lm-eval crashed before it answered", ExitCode.GATE),
        ("raise ConnectionRefusedError(111)", "the server stopped answering", ExitCode.GATE),
    ],
)
def test_a_failing_child_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, what: str, exit_code: ExitCode
) -> None:
    _replace_aiohttp(tmp_path, monkeypatch, code)
    stale = tmp_path / "work" / "answer.json"
    stale.parent.mkdir()
    stale.write_text('{"version": "of an earlier run"}')
    with pytest.raises(RelforgeError, match=what) as caught:
        LmEval(tmp_path / "work").evaluate("http://127.0.0.1:9", "m", request(5))
    assert caught.value.code is exit_code
    assert caught.value.log == str(tmp_path / "work" / "lm-eval.log")
    if exit_code is ExitCode.ENVIRONMENT:
        assert caught.value.hint == "pip install 'relforge[eval]'"


def test_a_child_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    _replace_aiohttp(
        tmp_path,
        monkeypatch,
        "import os, pathlib, time\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n",
    )
    started = time.monotonic()
    kept = tmp_path / "answers.jsonl"
    kept.write_text("what came until then")
    with pytest.raises(RelforgeError, match="did not finish within 3 s") as caught:
        LmEval(tmp_path, answers=kept).evaluate(
            "http://127.0.0.1:9", "m", request(5, timeout_s=3.0)
        )
    assert kept.exists(), "the next run goes on from there"
    assert "evaluation.timeout_s" in (caught.value.hint or "")
    assert caught.value.code is ExitCode.GATE
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_task_altered_after_planning_is_refused(tmp_path: Path) -> None:
    planned = request(5)
    altered = planned.model_copy(update={"task": planned.task.model_copy(update={"max_tokens": 9})})
    with pytest.raises(RelforgeError, match="task file was altered") as caught:
        LmEval(tmp_path).evaluate("http://127.0.0.1:9", "m", altered)
    assert caught.value.code is ExitCode.SOURCE


def test_the_child_stays_offline_and_gets_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intern.example")
    env = child_env(tmp_path)
    assert env["HF_HUB_OFFLINE"] == env["HF_DATASETS_OFFLINE"] == "1"
    assert env["HF_HOME"].startswith(str(tmp_path))
    assert env["OPENAI_API_KEY"] == ""
    assert env["NO_PROXY"] == "intern.example,127.0.0.1,localhost,::1"


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_root_of_a_server_may_be_written_with_or_without_v1(base: str) -> None:
    assert endpoint_url(base) == "http://h:1/v1/completions"


# ---------------------------------------------------------------- answers of a child


def _answer(task: Task, asked: tuple[Question, ...]) -> dict[str, Any]:
    return {
        "version": "0.4.13",
        "config": {
            "doc_to_text": task.prompt_template,
            "num_fewshot": 0,
            "generation_kwargs": {
                "until": list(task.stop),
                "do_sample": False,
                "temperature": 0.0,
                "max_gen_toks": task.max_tokens,
            },
        },
        "samples": [
            {
                "doc": question.model_dump(),
                "filter": task.filter,
                "target": question.answer,
                "answers": [question.answer],
                "metric": "exact_match",
                "value": 1.0,
            }
            for question in asked
        ],
    }


def test_a_complete_answer_is_read_in_the_order_asked() -> None:
    task, asked = read_task(TASK_FILE), chosen(6)
    answer = _answer(task, asked)
    answer["samples"].reverse()
    # lm-eval's word on right and wrong holds; it is not judged again.
    answer["samples"][0]["value"] = 0.0
    got = result_of(answer, task, asked, 0, seconds=2.0)
    assert [o.id for o in got.outcomes] == [q.id for q in asked]
    assert [o.correct for o in got.outcomes] == [True] * 5 + [False]
    assert got.seconds == 2.0


def _set(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(answer: dict[str, Any]) -> None:
        at: Any = answer
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda a: a["samples"].pop(), "the evaluation is truncated"),
        (lambda a: a["samples"].append(a["samples"][0]), "too many outcomes"),
        (lambda a: a["samples"].__setitem__(1, a["samples"][0]), "more than one outcome"),
        (_set("samples", 2, "doc", "id", to="add-0-0"), "asked other questions"),
        (_set("samples", 2, "doc", "question", to="1+1="), "asked other questions"),
        (_set("samples", 2, "target", to="0"), "asked other questions"),
        (_set("samples", 2, "value", to=0.5), "neither right nor wrong"),
        (_set("samples", 2, "value", to=float("nan")), "neither right nor wrong"),
        (_set("samples", 2, "filter", to="strict"), "neither right nor wrong"),
        (_set("samples", 2, "answers", to=[]), "unknown form"),
        (_set("samples", to=None), "unknown form"),
        (_set("config", "num_fewshot", to=5), "other settings"),
        (_set("config", "doc_to_text", to="{{question}} "), "other settings"),
        (_set("config", "generation_kwargs", "until", to=["\n\n"]), "other settings"),
        (_set("config", "generation_kwargs", "temperature", to=1.0), "other settings"),
        (_set("config", "generation_kwargs", "max_gen_toks", to=256), "other settings"),
    ],
)
def test_an_answer_that_is_not_the_whole_evaluation_is_refused(
    change: Callable[[dict[str, Any]], None], what: str
) -> None:
    task, asked = read_task(TASK_FILE), chosen(6)
    answer = copy.deepcopy(_answer(task, asked))
    change(answer)
    with pytest.raises(RelforgeError, match=what) as caught:
        result_of(answer, task, asked, 0, seconds=1.0, log=Path("lm-eval.log"))
    assert caught.value.code is ExitCode.GATE
    assert caught.value.log == "lm-eval.log"
