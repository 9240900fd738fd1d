"""lm-eval's own tasks: the real lm-eval and datasets client, against stand-in hub and server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.compare import compare
from relforge.evaluation.gating import online
from relforge.evaluation.interface import Evaluated, EvaluationRequest, NamedTask
from relforge.evaluation.lm_eval_driver import LmEval
from relforge.manifest.evaluation import Endpoint
from relforge.manifest.site import HubSite, HubsSite, Site
from tests.fakes.hub import FakeHub, Repo
from tests.support.completions import CompletionsServer, Reply, likelihoods, serving

HAS_LM_EVAL = "RELFORGE_ALL_TESTS" in os.environ or importlib.util.find_spec("lm_eval") is not None
pytestmark = [
    pytest.mark.skipif(not HAS_LM_EVAL, reason="extra 'eval' is not installed"),
    pytest.mark.lm_eval,
    pytest.mark.timeout(300),
]
COMMIT, OTHER = "a" * 40, "b" * 40
GSM8K, ARC = "openai/gsm8k", "allenai/ai2_arc"
QUESTIONS, EXAMPLES = 24, 8
CHOICES = ("red", "green", "blue", "yellow")


def config(**splits: str) -> str:
    return "".join(f"  - split: {name}\n    path: {path}\n" for name, path in splits.items())


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def sums(count: int, plus: int) -> bytes:
    return lines(
        [
            {"question": f"What is {i} plus {plus}?", "answer": f"Easy.\n#### {i + plus}"}
            for i in range(count)
        ]
    )


def colours(name: str, count: int) -> bytes:
    labels = list("ABCD")
    return lines(
        [
            {
                "id": f"{name}-{i}",
                "question": f"Which colour is number {i} of {name}?",
                "choices": {"text": list(CHOICES), "label": labels},
                "answerKey": labels[i % 4],
            }
            for i in range(count)
        ]
    )


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    gsm8k = "---\nconfigs:\n- config_name: main\n  data_files:\n" + config(
        train="main/train.jsonl", test="main/test.jsonl"
    )
    arc = "---\nconfigs:\n"
    files: dict[str, bytes] = {}
    for name in ("ARC-Easy", "ARC-Challenge"):
        arc += f"- config_name: {name}\n  data_files:\n" + config(
            train=f"{name}/train.jsonl",
            validation=f"{name}/validation.jsonl",
            test=f"{name}/test.jsonl",
        )
        files |= {
            f"{name}/{split}.jsonl": colours(name, 12) for split in ("train", "validation", "test")
        }
    first = {
        "README.md": f"{gsm8k}---\n".encode(),
        "main/train.jsonl": sums(EXAMPLES, 3),
        "main/test.jsonl": sums(QUESTIONS, 7),
    }
    revisions = {COMMIT: first, OTHER: {**first, "main/test.jsonl": sums(QUESTIONS, 8)}}
    repos = {
        f"datasets/{GSM8K}": Repo(revisions),
        f"datasets/{ARC}": Repo({COMMIT: {"README.md": f"{arc}---\n".encode(), **files}}),
    }
    with FakeHub(repos) as made:
        yield made


def gsm8k(**changes: Any) -> NamedTask:
    given: dict[str, Any] = {
        "name": "gsm8k",
        "datasets": {GSM8K: COMMIT},
        "metric": "exact_match,strict-match",
    }
    return NamedTask(**{**given, **changes})


def request(task: NamedTask, n: int, endpoint: Endpoint = "completions") -> EvaluationRequest:
    return EvaluationRequest(task=task, n=n, seed=1, endpoint=endpoint, concurrency=4)


def lm_eval(tmp_path: Path, hub: FakeHub | None, task: NamedTask) -> LmEval:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    site = Site(hubs=HubsSite(huggingface=HubSite(endpoint=hub.url if hub else None)))
    return LmEval(
        work,
        cache=tmp_path / "datasets" / task.datasets_key,
        online=online(site, {}) if hub else None,
    )


def evaluate(
    tmp_path: Path,
    hub: FakeHub | None,
    server: CompletionsServer,
    asked: EvaluationRequest,
) -> Evaluated:
    assert isinstance(asked.task, NamedTask)
    return lm_eval(tmp_path, hub, asked.task).evaluate(server.url, "m", asked)


def adds(body: dict[str, Any]) -> Reply:
    """Right but for multiples of five, in the form that gsm8k's strict match wants."""
    chat = "messages" in body
    prompt = "".join(one["content"] for one in body["messages"]) if chat else body["prompt"]
    left, right = map(int, re.findall(r"What is (\d+) plus (\d+)", prompt)[-1])
    return f" Easy.\n#### {left + right + (left % 5 == 0)}"


def refused(tmp_path: Path, hub: FakeHub | None, task: NamedTask, n: int = 5) -> RelforgeError:
    with pytest.raises(RelforgeError) as caught:
        lm_eval(tmp_path, hub, task).prepare(request(task, n))
    return caught.value


def test_gsm8k_by_name_from_a_pinned_commit_of_its_dataset(hub: FakeHub, tmp_path: Path) -> None:
    asked = request(gsm8k(), 20)
    with serving(adds) as server:
        done = evaluate(tmp_path, hub, server, asked).result
        assert {f"GET /datasets/{GSM8K}/resolve/{COMMIT}/main/test.jsonl"} <= set(hub.asked)
        assert not [line for line in hub.asked if "resolve/main" in line]
        hub.asked.clear()
        # From now on no hub is needed; the site may name none that can be reached.
        again = evaluate(tmp_path, None, server, asked).result
        assert evaluate(tmp_path, hub, server, asked).result.outcomes == again.outcomes
    assert hub.asked == []
    assert again.outcomes == done.outcomes

    settings = done.settings
    assert (settings.n, settings.shots, settings.temperature, settings.seed) == (20, 5, 0.0, 1)
    assert (settings.metric, settings.filter) == ("exact_match", "strict-match")
    assert settings.stop == ("Question:", "</s>", "<|im_end|>")
    assert (settings.max_tokens, settings.task_version) == (256, "3.0")
    assert settings.datasets == {GSM8K: COMMIT}
    assert settings.prompt_template == "Question: {{question}}\nAnswer:"
    sent = server.requests[0]
    assert sent["prompt"].count("Question:") == 6, "five examples and the question"
    assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (256, 0.0, 1)
    assert sent["stop"] == list(settings.stop)
    wrong = {o.id for o in done.outcomes if not o.correct}
    assert wrong == {o.id for o in done.outcomes if int(o.id) % 5 == 0}
    assert wrong
    first = done.outcomes[0]
    assert first.question == f"Question: What is {first.id} plus 7?\nAnswer:"
    assert first.prompt_sha256 is not None


def test_another_commit_is_another_evaluation(hub: FakeHub, tmp_path: Path) -> None:
    task = gsm8k(datasets={GSM8K: OTHER})
    with serving(adds) as server:
        before = evaluate(tmp_path, hub, server, request(gsm8k(), 10)).result
        # Not what is there already of another commit, though the hub is gone.
        assert refused(tmp_path, None, task).code is ExitCode.SOURCE
        after = evaluate(tmp_path, hub, server, request(task, 10)).result
    assert {o.question for o in before.outcomes} != {o.question for o in after.outcomes}
    with pytest.raises(RelforgeError, match="other settings") as caught:
        compare(before, after, margin_points=2)
    assert "questions_sha256" in (caught.value.why or "")


def test_shots_and_limit_of_the_manifest_count(hub: FakeHub, tmp_path: Path) -> None:
    with serving(adds) as server:
        done = evaluate(tmp_path, hub, server, request(gsm8k(shots=2, max_tokens=32), 6)).result
        fewer = evaluate(tmp_path, hub, server, request(gsm8k(shots=3, max_tokens=32), 6)).result
    assert (done.settings.shots, done.settings.max_tokens) == (2, 32)
    assert server.requests[0]["prompt"].count("Question:") == 3
    assert server.requests[0]["max_tokens"] == 32
    with pytest.raises(RelforgeError, match="other settings") as caught:
        compare(done, fewer, margin_points=2)
    assert caught.value.why == "reference and result: shots: 2, 3"


def test_a_chat_endpoint_gets_messages(hub: FakeHub, tmp_path: Path) -> None:
    with serving(adds) as server:
        done = evaluate(tmp_path, hub, server, request(gsm8k(), 6, "chat")).result
        plain = evaluate(tmp_path, hub, server, request(gsm8k(), 6)).result
    sent = server.requests[0]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["messages"][-1]["role"] == "user"
    assert [o.correct for o in done.outcomes] == [o.correct for o in plain.outcomes]
    with pytest.raises(RelforgeError, match="other settings") as caught:
        compare(plain, done, margin_points=2)
    assert "endpoint: 'completions', 'chat'" in (caught.value.why or "")


@pytest.mark.parametrize(
    ("task", "code", "words", "hint"),
    [
        (gsm8k(datasets={}), ExitCode.USAGE, "the release pins no commit of it", "COMMIT"),
        (gsm8k(datasets={GSM8K: "c" * 40}), ExitCode.SOURCE, "c" * 40, "hubs.huggingface"),
        (gsm8k(metric=None), ExitCode.USAGE, "exact_match,flexible-extract", "metric"),
        (gsm8k(metric="acc"), ExitCode.USAGE, "no single metric acc", "metric"),
        (gsm8k(name="gsm9k"), ExitCode.USAGE, "no task gsm9k", "lm_eval ls tasks"),
        (gsm8k(tool_version="0.4.1"), ExitCode.ENVIRONMENT, "planned with 0.4.1", "again"),
    ],
)
def test_what_cannot_be_asked_is_said_before_there_is_a_server(
    hub: FakeHub, tmp_path: Path, task: NamedTask, code: ExitCode, words: str, hint: str
) -> None:
    error = refused(tmp_path, hub, task)
    assert error.code is code
    assert words in (error.why or "")
    assert hint in (error.hint or "")


def test_more_questions_than_there_are(hub: FakeHub, tmp_path: Path) -> None:
    error = refused(tmp_path, hub, gsm8k(), QUESTIONS + 1)
    assert error.code is ExitCode.USAGE
    assert f"gsm8k has {QUESTIONS}" in (error.why or "")


# ---------------------------------------------------------------- choices


def arc(name: str, **changes: Any) -> NamedTask:
    return NamedTask(**{"name": name, "datasets": {ARC: COMMIT}, "metric": "acc", **changes})


def chooses(body: dict[str, Any]) -> Reply:
    """Takes the right colour but for multiples of five."""
    if body["path"] == "/tokenize":
        return {"tokens": [ord(sign) for sign in body["prompt"]]}

    def of(text: str) -> float:
        if (found := re.search(r"number (\d+) of", text)) is None:
            return -1.0
        number = int(found[1])
        right = CHOICES[(number + (number % 5 == 0)) % 4]
        return -0.1 if text.endswith(f" {right}") else -9.0

    return likelihoods(body, of)


def test_choices_are_asked_by_their_log_likelihoods(hub: FakeHub, tmp_path: Path) -> None:
    with serving(chooses) as server:
        done = evaluate(tmp_path, hub, server, request(arc("arc_easy"), 12)).result
    assert done.settings.output_type == "multiple_choice"
    assert (done.settings.metric, done.settings.max_tokens) == ("acc", 1)
    assert [o.id for o in done.outcomes if not o.correct] == ["0", "5", "10"]
    assert done.outcomes[1].expected == "green"
    assert done.outcomes[1].answer.startswith("green (")
    assert done.outcomes[0].answer.startswith("green ("), "the one it took, not the right one"
    asked = [one for one in server.requests if one["path"] == "/v1/completions"]
    assert len(asked) == 12 * 4 + 1, "each choice, and one probe"
    assert all(one["echo"] and one["logprobs"] for one in asked)


def test_subtasks_are_groups(hub: FakeHub, tmp_path: Path) -> None:
    with serving(chooses) as server:
        done = evaluate(tmp_path, hub, server, request(arc("ai2_arc"), 20)).result
    assert {o.group for o in done.outcomes} == {"arc_easy", "arc_challenge"}
    assert all(o.id.startswith(f"{o.group}/") for o in done.outcomes)
    assert done.n == 20
    assert compare(done, done, margin_points=2).groups == 2


@pytest.mark.parametrize(
    "unlike",
    [
        lambda _: (404, b'{"detail": "Not Found"}'),
        lambda body: chooses(body) if body["path"] == "/tokenize" else "no likelihoods",
    ],
)
def test_a_server_without_log_likelihoods_is_refused(
    hub: FakeHub, tmp_path: Path, unlike: Any
) -> None:
    with serving(unlike) as server, pytest.raises(RelforgeError) as caught:
        evaluate(tmp_path, hub, server, request(arc("arc_easy"), 4))
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.what == "the task cannot be asked like this"
    assert len(server.requests) <= 2, "nothing was asked for nothing"


def test_choices_of_a_chat_endpoint_are_refused(hub: FakeHub, tmp_path: Path) -> None:
    with serving(chooses) as server, pytest.raises(RelforgeError) as caught:
        evaluate(tmp_path, hub, server, request(arc("arc_easy"), 4, "chat"))
    assert caught.value.code is ExitCode.USAGE
    assert "chat endpoint" in (caught.value.why or "")
    assert server.requests == []
