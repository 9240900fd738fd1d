"""A release with operators disabled, the list of operators, and questions in two halves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.harness.reading import settings_of
from relforge.evaluation.interface import EvaluationResult, Outcome
from relforge.evaluation.statistics.judging import Pairs, judge
from relforge.evaluation.task import Question, read_task, select
from relforge.manifest.evaluation import EvaluationTask
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.release import Release
from relforge.manifest.tuning import Tuning
from relforge.tuning.asking import BOTH, FRESH, SEARCH, Asked
from relforge.tuning.questions import fewest, questions_of
from relforge.tuning.settings import (
    already_disabled,
    candidates,
    place_of,
    printed_operators,
    read_operators,
    tuning_of,
    with_disabled,
)

HELLO = builtin_root() / "examples" / "hello"
SOURCE = "some document"


def release(tuning: dict[str, Any] | None, **serve: Any) -> Release:
    found = Project((builtin_root(),)).release("tiny-adder-cpu_x86")
    data = found.model_dump(mode="json") | {"tuning": tuning}
    data["serve"] |= serve
    return Release.model_validate(data)


def test_the_variable_gets_what_is_disabled_and_else_is_not_set() -> None:
    plain = release({"variable": "OFF", "source": SOURCE}, env={"OTHER": "1"})
    assert already_disabled(plain) == ()
    served = with_disabled(plain, ["mul", "mm", "mul"])
    assert served.serve.env == {"OTHER": "1", "OFF": "mul,mm"}
    assert place_of(plain) == "serve.env.OFF"
    assert with_disabled(served, []).serve.env == {"OTHER": "1"}


def test_the_argument_gets_it_with_the_separator_of_the_manifest() -> None:
    found = release(
        {"argument": "disable-ops", "separator": ";", "source": SOURCE},
        args={"dtype": "float32", "disable-ops": "mm; cat;"},
    )
    assert already_disabled(found) == ("mm", "cat")
    served = with_disabled(found, [*already_disabled(found), "mul"])
    assert served.serve.args == {"dtype": "float32", "disable-ops": "mm;cat;mul"}
    assert place_of(found) == "serve.args.disable-ops"


def test_a_release_that_does_not_say_how_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RelforgeError) as refused:
        tuning_of(release(None))
    assert refused.value.code == ExitCode.USAGE
    assert dispatch("tune", ["--release", "tiny-adder-cpu_x86"]) == 2
    assert "does not say how operators are disabled" in capsys.readouterr().err
    assert dispatch("tune", []) == 2
    assert "no release is named" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "either variable or argument"),
        ({"variable": "OFF", "argument": "off"}, "either variable or argument"),
        ({"variable": "OFF", "operators": ["a"], "list_command": ["ls"]}, "the same thing"),
        ({"variable": "OFF", "operators": ["a", "a"]}, "twice"),
        ({"variable": "OFF", "operators": ["a"], "suspects": ["b"]}, "none of the operators: b"),
        ({"variable": "OFF", "operators": ["a b"]}, "operators"),
        ({"variable": "OFF", "separator": "x"}, "separator"),
    ],
)
def test_what_contradicts_itself_in_the_manifest_is_refused(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        Tuning.model_validate({"source": SOURCE, **changes})


def test_a_command_of_ones_own_has_no_argument_to_add() -> None:
    data = Project((HELLO, builtin_root())).release("hello-cpu_x86").model_dump(mode="json")
    Release.model_validate(data | {"tuning": {"variable": "OFF", "source": SOURCE}})
    with pytest.raises(ValidationError, match=r"name tuning\.variable"):
        Release.model_validate(data | {"tuning": {"argument": "off", "source": SOURCE}})


def test_how_operators_are_disabled_is_no_part_of_a_lock_or_of_how_it_is_served() -> None:
    from relforge.lock import request_key
    from relforge.serving.inputs import _SERVED

    project = Project((builtin_root(),))
    device = project.device("cpu_x86").for_release(None)
    plain, tuned = release(None), release({"variable": "OFF", "source": SOURCE})
    assert request_key(plain, device) == request_key(tuned, device)
    assert "tuning" not in _SERVED


def test_operators_are_read_from_a_file_or_from_what_a_program_prints(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("# FlagGems\nmul  # wrong\n\nadd.Tensor\nmul\n")
    assert read_operators(path) == ("add.Tensor", "mul")
    path.write_text("mul\nnot one\n")
    with pytest.raises(RelforgeError) as bad:
        read_operators(path)
    assert (bad.value.code, bad.value.where) == (ExitCode.USAGE, f"{path}:2")
    path.write_bytes(b"\xff\xfe")
    for unreadable in (path, tmp_path / "absent"):
        with pytest.raises(RelforgeError):
            read_operators(unreadable)
    log = "INFO: a library says hello\nmm\n  cat\nwarning, too\n"
    assert printed_operators(log, "here") == ("cat", "mm")
    with pytest.raises(RelforgeError, match="no list of operators"):
        printed_operators("nothing here, really\n", "here")
    assert candidates(["b", "a", "c"], ["b"], "here") == ("a", "c")
    with pytest.raises(RelforgeError):
        candidates(["b"], ["b"], "here")


def test_requests_that_skip_each_others_questions_share_none() -> None:
    questions = tuple(Question(id=str(one), question="q", answer="a") for one in range(100))
    first, second = select(questions, 40, 3), select(questions, 40, 3, 40)
    assert not set(first) & set(second)
    assert set(first) | set(second) == set(select(questions, 80, 3))
    with pytest.raises(RelforgeError, match="101 questions"):
        select(questions, 41, 3, 60)


@pytest.mark.parametrize("margin_points", [0.5, 1, 2, 5, 10])
def test_the_fewest_questions_that_decide(margin_points: float) -> None:
    n = fewest(margin_points)
    assert judge(Pairs(0, 0, n), margin_points=margin_points).conclusion == "non-inferior"
    assert judge(Pairs(0, 0, n - 1), margin_points=margin_points).conclusion == "inconclusive"


def task_of(tmp_path: Path, questions: int) -> tuple[Path, EvaluationResult]:
    """hello's task with so many questions, and a reference that answered all of them."""
    rows = [
        {"id": f"q{number}", "question": f"{number}+1=", "answer": str(number + 1)}
        for number in range(questions)
    ]
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "task.yaml"
    path.write_text((HELLO / "task.yaml").read_text())
    task = read_task(path)
    outcomes = tuple(
        Outcome(
            id=row["id"], question=row["question"], expected=row["answer"], answer="1", correct=True
        )
        for row in rows
    )
    settings = settings_of(task, questions, 0, tool_version="1")
    return path, EvaluationResult(settings=settings, outcomes=outcomes)


def test_each_half_has_questions_of_its_own_and_levels_ask_more(tmp_path: Path) -> None:
    path, reference = task_of(tmp_path, 3000)
    evaluation = EvaluationTask(task="task.yaml", questions=1000, margin_points=2, seed=5)
    found = questions_of(read_task(path), path, evaluation, reference)
    assert found.sizes == (284, 568, 1136, 1500)

    def chosen(part: int, level: int) -> set[int]:
        request = found.request(Asked(frozenset(), part, level))
        questions = tuple(
            Question(id=one.id, question=one.question, answer=one.expected)
            for one in reference.outcomes
        )
        return set(select(questions, request.n, request.seed, request.skip))

    for level in range(4):
        assert not chosen(SEARCH, level) & chosen(FRESH, level)
        assert len(chosen(FRESH, level)) == found.sizes[level]
        assert len(chosen(BOTH, level)) == 2 * found.sizes[level]
    assert chosen(BOTH, 3) == chosen(SEARCH, 3) | chosen(FRESH, 3)
    # Without a reference for every question, those of the gate are all there are.
    some = reference.only(f"q{number}" for number in range(2999))
    assert questions_of(read_task(path), path, evaluation, some).half == 500


def test_too_few_questions_for_two_halves_are_refused(tmp_path: Path) -> None:
    path, reference = task_of(tmp_path, 376)
    evaluation = EvaluationTask(task="task.yaml", questions=376, margin_points=2)
    with pytest.raises(RelforgeError) as refused:
        questions_of(read_task(path), path, evaluation, reference)
    assert refused.value.code == ExitCode.USAGE
    assert "at least 189 decide" in (refused.value.why or "")
    path, reference = task_of(tmp_path, 378)
    assert questions_of(read_task(path), path, evaluation, reference).sizes == (189,)
