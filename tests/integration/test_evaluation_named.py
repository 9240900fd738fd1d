"""lm-eval's own tasks: the real lm-eval and datasets client, against stand-in hub and server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.answers import AnswerLog
from relforge.evaluation.compare import compare
from relforge.evaluation.gating import online
from relforge.evaluation.harness.driver import LmEval, child_env, endpoint_url
from relforge.evaluation.harness.model import UnsupportedError, model
from relforge.evaluation.interface import (
    EvaluationRequest,
    EvaluationResult,
    NamedTask,
    Prepared,
)
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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets that were fetched stay for the other tests, as they do for a user."""
    return tmp_path_factory.mktemp("named")


def lm_eval(folder: Path, hub: FakeHub | None, task: NamedTask) -> LmEval:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    site = Site(hubs=HubsSite(huggingface=HubSite(endpoint=hub.url if hub else None)))
    return LmEval(
        work,
        cache=folder / "datasets" / task.datasets_key,
        online=online(site, {}) if hub else None,
    )


def prepared(folder: Path, hub: FakeHub | None, asked: EvaluationRequest) -> Prepared:
    assert isinstance(asked.task, NamedTask)
    return lm_eval(folder, hub, asked.task).prepare(asked)


def evaluated(
    folder: Path, server: CompletionsServer, asked: EvaluationRequest, found: Prepared
) -> EvaluationResult:
    assert isinstance(asked.task, NamedTask)
    # No hub: what was prepared is asked.
    return lm_eval(folder, None, asked.task).evaluate(server.url, "m", asked, found).result


def adds(body: dict[str, Any]) -> Reply:
    """Right but for multiples of five, in the form that gsm8k's strict match wants."""
    chat = "messages" in body
    prompt = "".join(one["content"] for one in body["messages"]) if chat else body["prompt"]
    left, right = map(int, re.findall(r"What is (\d+) plus (\d+)", prompt)[-1])
    return f" Easy.\n#### {left + right + (left % 5 == 0)}"


@pytest.fixture(scope="module")
def gsm(hub: FakeHub, folder: Path) -> Prepared:
    return prepared(folder, hub, request(gsm8k(), 20))


def test_gsm8k_by_name_from_a_pinned_commit_of_its_dataset(
    hub: FakeHub, folder: Path, gsm: Prepared
) -> None:
    asked = request(gsm8k(), 20)
    found = gsm
    assert f"GET /datasets/{GSM8K}/resolve/{COMMIT}/main/test.jsonl" in hub.asked
    assert not [line for line in hub.asked if "main/main" in line], "nothing of a branch"
    hub.asked.clear()
    assert prepared(folder, hub, asked) == found
    assert hub.asked == [], "what is here already needs no hub"
    with serving(adds) as server:
        done = evaluated(folder, server, asked, found)

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


def test_another_commit_is_not_taken_for_the_pinned_one(
    hub: FakeHub, folder: Path, gsm: Prepared
) -> None:
    other = request(gsm8k(datasets={GSM8K: OTHER}), 20)
    with pytest.raises(RelforgeError, match="a dataset cannot be had") as caught:
        prepared(folder, None, other)
    assert caught.value.code is ExitCode.SOURCE
    assert f"{GSM8K} at {OTHER}" in (caught.value.why or "")
    after = prepared(folder, hub, other)
    assert {q.question for q in gsm.questions} != {q.question for q in after.questions}
    unlike = gsm.settings.differences(after.settings)
    assert len(unlike) == 1
    assert unlike[0].startswith("questions_sha256")


def test_a_chat_endpoint_gets_messages_with_shots_and_limit_of_the_manifest(
    hub: FakeHub, folder: Path
) -> None:
    asked = request(gsm8k(shots=2, max_tokens=32), 6, "chat")
    found = prepared(folder, hub, asked)
    with serving(adds) as server:
        done = evaluated(folder, server, asked, found)
    sent = server.requests[0]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["messages"][-1]["role"] == "user"
    assert sum(one["content"].count("Question:") for one in sent["messages"]) == 3
    assert sent["max_tokens"] == 32
    assert (done.settings.shots, done.settings.max_tokens) == (2, 32)
    assert done.settings.endpoint == "chat"
    assert {o.id for o in done.outcomes if not o.correct} == {
        o.id for o in done.outcomes if int(o.id) % 5 == 0
    }


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"datasets": {}}, "the release pins no commit of it", "COMMIT"),
    ({"metric": None}, "exact_match,flexible-extract", "say which one counts: metric"),
    ({"metric": "acc"}, "no single metric acc", "say which one counts: metric"),
    ({"name": "gsm9k"}, "lm-eval has no task gsm9k", "lm_eval ls tasks"),
    ({"name": "wikitext", "datasets": {}}, "the release pins no commit", "COMMIT"),
    ({"n": QUESTIONS + 1}, f"gsm8k has {QUESTIONS}", f"at most {QUESTIONS}"),
]


@pytest.mark.usefixtures("gsm")
def test_what_cannot_be_asked_says_what_to_write(folder: Path) -> None:
    """In one child for all: lm-eval takes seconds to find its tasks."""
    program = (
        "import json, sys\n"
        "from lm_eval.tasks import TaskManager\n"
        "from relforge.evaluation.harness.tasks import Loaded, Named, TaskError\n"
        "manager, said = TaskManager(), []\n"
        "for n, words in json.load(sys.stdin):\n"
        "    try:\n"
        "        Loaded(Named(**words), manager).select(n, 1)\n"
        "        said.append(None)\n"
        "    except TaskError as error:\n"
        "        said.append([str(error), error.hint])\n"
        "print(json.dumps(said))\n"
    )
    asked = [(5, gsm8k().model_dump(exclude={"tool_version"}))]
    for changes, _, _ in REFUSED:
        n = changes.get("n", 5)
        task = gsm8k(**{name: value for name, value in changes.items() if name != "n"})
        asked.append((n, task.model_dump(exclude={"tool_version"})))
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **child_env(folder / "datasets" / gsm8k().datasets_key)},
    )
    fine, *refused = json.loads(done.stdout.splitlines()[-1])
    assert fine is None
    assert len(refused) == len(REFUSED)
    for (text, hint), (_, words, todo) in zip(refused, REFUSED, strict=True):
        assert words in text
        assert todo in hint


@pytest.mark.usefixtures("gsm")
def test_tasks_of_another_lm_eval_are_not_those_of_the_plan(hub: FakeHub, folder: Path) -> None:
    with pytest.raises(RelforgeError, match="lm-eval was replaced") as caught:
        prepared(folder, hub, request(gsm8k(tool_version="0.4.1"), 5))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "planned with 0.4.1" in (caught.value.why or "")


# ---------------------------------------------------------------- choices


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


ARC_TASK = NamedTask(name="ai2_arc", datasets={ARC: COMMIT}, metric="acc")


def test_choices_are_asked_by_their_log_likelihoods_and_subtasks_are_groups(
    hub: FakeHub, folder: Path
) -> None:
    found = prepared(folder, hub, request(ARC_TASK, 20))
    with serving(chooses) as server:
        done = evaluated(folder, server, request(ARC_TASK, 20), found)
    assert done.settings.output_type == "multiple_choice"
    assert (done.settings.metric, done.settings.max_tokens) == ("acc", 1)
    wrong = {o.id for o in done.outcomes if not o.correct}
    assert wrong == {o.id for o in done.outcomes if int(o.id.split("/")[1]) % 5 == 0}
    for outcome in done.outcomes:
        number = int(outcome.id.split("/")[1])
        assert outcome.expected == CHOICES[number % 4]
        taken = CHOICES[(number + (number % 5 == 0)) % 4]
        assert outcome.answer.startswith(f"{taken} ("), "the one it took, not the right one"
    asked = [one for one in server.requests if one["path"] == "/v1/completions"]
    assert len(asked) == 20 * 4 + 1, "each choice, and one probe"
    assert all(one["echo"] and one["logprobs"] for one in asked)
    assert {o.group for o in done.outcomes} == {"arc_easy", "arc_challenge"}
    assert all(o.id.startswith(f"{o.group}/") for o in done.outcomes)
    assert compare(done, done, margin_points=2).groups == 2


def no_likelihoods(body: dict[str, Any]) -> Reply:
    return chooses(body) if body["path"] == "/tokenize" else "a text"


@pytest.mark.parametrize(
    ("server", "chat", "words", "requests"),
    [
        (lambda _: (404, b'{"detail": "Not Found"}'), False, "gives no tokens", 1),
        (no_likelihoods, False, "no log-probabilities of a prompt", 2),
        (chooses, True, "a chat endpoint gives no log-likelihoods", 0),
    ],
)
def test_where_there_are_no_log_likelihoods_choices_are_refused(
    tmp_path: Path,
    server: Callable[[dict[str, Any]], Reply],
    chat: bool,
    words: str,
    requests: int,
) -> None:
    log = AnswerLog(tmp_path / "answers.jsonl", "image A")
    with serving(server) as asked, pytest.raises(UnsupportedError, match=words):
        model(
            url=endpoint_url(asked.url, "chat" if chat else "completions"),
            chat=chat,
            name="m",
            concurrency=1,
            timeout_s=5.0,
            seed=1,
            log=log,
            tokenize=True,
        )
    log.close()
    assert len(asked.requests) == requests, "nothing was asked for nothing"
