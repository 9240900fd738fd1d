"""Tasks, evidence files and comparisons: what is accepted, and what is refused and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.compare import compare
from relforge.evaluation.evidence import (
    evidence_bytes,
    load_reference,
    write_evidence,
)
from relforge.evaluation.harness.reading import settings_of
from relforge.evaluation.interface import EvaluationResult, EvaluationSettings, Outcome
from relforge.evaluation.task import Question, read_questions, read_task, select
from relforge.frozen import sha256_hex

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED_TASK = PROJECT / "examples" / "tasks" / "tiny_adder_addition.yaml"
HASH = "a" * 64


def settings(n: int, **changes: Any) -> EvaluationSettings:
    return EvaluationSettings.model_validate(
        {
            "task": "addition",
            "questions_sha256": HASH,
            "n": n,
            "shots": 0,
            "temperature": 0.0,
            "max_tokens": 8,
            "stop": ["\n"],
            "prompt_template": "{{question}}",
            "tool": "test",
            "tool_version": "1",
            **changes,
        }
    )


def result(right: str, **changes: Any) -> EvaluationResult:
    """An evaluation whose outcomes are spelt as '+' (right) and '-' (wrong)."""
    outcomes = tuple(
        Outcome(
            id=f"q{i}",
            question=f"{i}+1=",
            expected=str(i + 1),
            answer=str(i + 1) if mark == "+" else "0 ü\n",
            correct=mark == "+",
        )
        for i, mark in enumerate(right)
    )
    return EvaluationResult(
        settings=settings(len(outcomes), **changes), outcomes=outcomes, seconds=1.5
    )


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """The shipped task, with a questions file of four rows beside it."""
    (tmp_path / "tiny-adder").mkdir()
    (tmp_path / "tasks").mkdir()
    rows = [{"id": f"q{i}", "question": f"{i}+1=", "answer": str(i + 1)} for i in range(4)]
    questions = tmp_path / "tiny-adder" / "heldout.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "tasks" / "addition.yaml"
    path.write_bytes(SHIPPED_TASK.read_bytes())
    return path


# ---------------------------------------------------------------- results


def test_totals_come_from_the_outcomes() -> None:
    measured = result("++-+")
    assert (measured.k, measured.n, measured.accuracy_percent) == (3, 4, 75.0)


def test_a_result_needs_as_many_outcomes_as_its_settings_say() -> None:
    with pytest.raises(ValueError, match="3 outcomes, but n is 4"):
        EvaluationResult(settings=settings(4), outcomes=result("+++").outcomes)


def test_a_question_has_one_outcome() -> None:
    with pytest.raises(ValueError, match="more than once: q0"):
        EvaluationResult(settings=settings(2), outcomes=result("+").outcomes * 2)


def test_a_reference_is_cut_to_the_questions_asked() -> None:
    cut = result("+-+-").only(["q3", "q0"])
    assert [(o.id, o.correct) for o in cut.outcomes] == [("q0", True), ("q3", False)]
    assert (cut.settings.n, cut.seconds) == (2, None)


def test_a_reference_without_a_question_is_refused() -> None:
    with pytest.raises(RelforgeError, match="1 of 2 questions have no outcome") as caught:
        result("++").only(["q0", "q9"])
    assert caught.value.why == "for example q9"


# ---------------------------------------------------------------- tasks and questions


def test_the_task_says_what_decides_an_answer(task_file: Path) -> None:
    task = read_task(task_file)
    assert task.name == "tiny_adder_addition"
    assert (task.temperature, task.max_tokens, task.shots) == (0.0, 8, 0)
    assert task.stop == ("<|endoftext|>", "\n")
    assert task.sha256 == sha256_hex(task_file.read_bytes())
    questions = read_questions(task_file, task)
    assert questions[2] == Question(id="q2", question="2+1=", answer="3")
    assert str(task_file.parent) not in task.model_dump_json()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"include": "base.yaml"}, "include"),
        ({"num_fewshot": 5}, "num_fewshot"),
        ({"process_docs": "x"}, "process_docs"),
        ({"metric_list": []}, "metric_list"),
        ({"dataset_path": "gsm8k"}, "dataset_path"),
    ],
)
def test_a_task_with_more_than_we_record_is_refused(
    task_file: Path, change: dict[str, Any], why: str
) -> None:
    task_file.write_text(yaml.safe_dump({**yaml.safe_load(task_file.read_text()), **change}))
    with pytest.raises(RelforgeError) as caught:
        read_task(task_file)
    assert caught.value.code is ExitCode.USAGE
    assert why in (caught.value.why or "")


def test_code_in_a_task_file_is_refused_with_its_line(task_file: Path) -> None:
    task_file.write_text("task: t\nprocess_results: !function utils.judge\n")
    with pytest.raises(RelforgeError, match="not a task file") as caught:
        read_task(task_file)
    assert caught.value.where == f"{task_file}:2:18"


def test_a_task_without_its_questions_is_refused(task_file: Path) -> None:
    (task_file.parent.parent / "tiny-adder" / "heldout.jsonl").unlink()
    with pytest.raises(RelforgeError, match="questions file cannot be read"):
        read_task(task_file)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"id": "q0", "question": "1+1=", "answer": "2"}', "id 'q0' also in line 1"),
        ('{"id": "q9", "question": "1+1="}', "answer: Field required"),
        ('{"id": "q9", "question": "1+1=", "answer": 2}', "answer: Input should be a valid string"),
        ("{", "Expecting property name"),
    ],
)
def test_a_bad_question_is_refused_with_its_line(task_file: Path, row: str, why: str) -> None:
    questions = task_file.parent.parent / "tiny-adder" / "heldout.jsonl"
    questions.write_text(questions.read_text() + row + "\n")
    with pytest.raises(RelforgeError) as caught:
        read_questions(task_file, read_task(task_file))
    assert caught.value.where is not None
    assert caught.value.where.endswith("heldout.jsonl:5")
    assert why in (caught.value.why or "")


def test_questions_altered_after_planning_are_refused(task_file: Path) -> None:
    task = read_task(task_file)
    questions = task_file.parent.parent / "tiny-adder" / "heldout.jsonl"
    questions.write_text(questions.read_text().replace('"3"', '"4"'))
    with pytest.raises(RelforgeError, match="altered since the plan") as caught:
        read_questions(task_file, task)
    assert caught.value.code is ExitCode.SOURCE


def test_the_choice_of_questions_depends_on_ids_n_and_seed_only() -> None:
    questions = tuple(Question(id=f"q{i}", question="", answer="") for i in range(200))
    chosen = select(questions, 50, seed=7)
    assert chosen == tuple(sorted(set(chosen)))
    assert len(chosen) == 50
    assert set(chosen) < set(select(questions, 60, seed=7))
    assert chosen != select(questions, 50, seed=8)
    turned = select(questions[::-1], 50, seed=7)
    assert {questions[i].id for i in chosen} == {questions[::-1][i].id for i in turned}
    assert select(questions, 200, seed=7) == tuple(range(200))


def test_more_questions_than_there_are_is_a_manifest_error() -> None:
    with pytest.raises(RelforgeError, match="3 questions are asked for, but the task has 1") as e:
        select((Question(id="a", question="", answer=""),), 3, seed=0)
    assert e.value.code is ExitCode.USAGE


# ---------------------------------------------------------------- evidence files


def test_a_result_can_become_a_reference(tmp_path: Path) -> None:
    measured = result("+-++", seed=3, task_sha256="b" * 64)
    digest = write_evidence(measured, tmp_path / "evidence.json")
    assert load_reference(tmp_path / "evidence.json", sha256=digest, task="addition") == measured


def test_evidence_reads_one_question_a_line_and_is_reproducible() -> None:
    text = evidence_bytes(result("+-")).decode()
    assert text.encode() == evidence_bytes(result("+-"))
    assert (
        '    {"id": "q1", "question": "1+1=", "expected": "2", "answer": "0 ü\\n", '
        '"correct": false}\n' in text
    )
    assert json.loads(text)["result"] == {"correct": 1, "n": 2, "accuracy": 0.5, "seconds": 1.5}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"correct": 2,', '"correct": 3,', "records 3 of 4 correct, its outcomes give 2 of 4"),
        ('"accuracy": 0.5', '"accuracy": 0.51', "accuracy of 0.51, its outcomes give 0.500000"),
        ('"correct": true', '"correct": false', "records 2 of 4 correct, its outcomes give 1"),
        ('"n": 4,', '"n": 5,', "4 outcomes, but n is 5"),
        ('"q1"', '"q0"', "more than once: q0"),
        ("relforge.evaluation/1", "relforge.evaluation/9", "format is 'relforge.evaluation/9'"),
        ('"shots"', '"shoots"', "settings.shots: Field required"),
        ("{", "", "Extra data"),
    ],
)
def test_altered_evidence_is_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = tmp_path / "evidence.json"
    text = evidence_bytes(result("++--")).decode()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RelforgeError, match="cannot be used") as caught:
        load_reference(path)
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.where == str(path)
    assert why in (caught.value.why or "")


def test_evidence_other_than_the_pinned_is_refused(tmp_path: Path) -> None:
    write_evidence(result("+"), tmp_path / "e.json")
    with pytest.raises(RelforgeError, match="not the one that the manifest pins"):
        load_reference(tmp_path / "e.json", sha256=HASH)
    with pytest.raises(RelforgeError) as caught:
        load_reference(tmp_path / "e.json", task="subtraction")
    assert caught.value.why == "it is of task 'addition', not 'subtraction'"
    with pytest.raises(RelforgeError, match="cannot be used"):
        load_reference(tmp_path / "absent.json")


def test_the_shipped_reference_fits_the_shipped_task() -> None:
    path = PROJECT / "examples" / "tiny-adder" / "reference.json"
    reference = load_reference(path, task="tiny_adder_addition")
    assert 85.0 <= reference.accuracy_percent <= 99.0
    task = read_task(SHIPPED_TASK)
    assert reference.settings.differences(settings_of(task, 500, 0, tool_version="x")) == []
    asked = read_questions(SHIPPED_TASK, task)
    assert {(q.id, q.question, q.answer) for q in asked} == {
        (o.id, o.question, o.expected) for o in reference.outcomes
    }


# ---------------------------------------------------------------- comparison


def test_equal_outcomes_are_non_inferior_given_enough_questions() -> None:
    got = compare(result("+-" * 250), result("+-" * 250), margin_points=2)
    assert (got.conclusion, got.verdict, got.p_value) == ("non-inferior", "pass", 1.0)
    assert got.difference_points == 0.0
    low, high = got.interval_points
    assert low < 0 < high
    assert compare(result("+" * 30), result("+" * 30), margin_points=2).verdict == "inconclusive"


def test_a_loss_is_counted_against_the_result() -> None:
    reference, measured = result("+" * 90 + "-" * 10), result("+" * 50 + "-" * 45 + "+" * 5)
    got = compare(reference, measured, margin_points=2)
    assert (got.only_reference, got.only_result) == (40, 5)
    assert (got.reference_correct, got.result_correct, got.n) == (90, 55, 100)
    assert got.difference_points == pytest.approx(-35.0)
    assert (got.conclusion, got.verdict) == ("inferior", "fail")
    assert got.reason.startswith("inferior: -35.00 points [")
    assert compare(measured, reference, margin_points=2).conclusion == "non-inferior"


def test_order_does_not_matter() -> None:
    reference, measured = result("+-++"), result("++-+")
    turned = EvaluationResult(settings=measured.settings, outcomes=measured.outcomes[::-1])
    assert compare(reference, turned, margin_points=2) == compare(
        reference, measured, margin_points=2
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"max_tokens": 16}, "max_tokens: 8, 16"),
        ({"shots": 5}, "shots: 0, 5"),
        ({"temperature": 0.7, "seed": 1}, "temperature: 0.0, 0.7; seed: None, 1"),
        ({"stop": ["."]}, "stop"),
        ({"prompt_template": "Q: {{question}}"}, "prompt_template"),
        ({"questions_sha256": "b" * 64}, "questions_sha256"),
    ],
)
def test_other_settings_are_not_compared(change: dict[str, Any], why: str) -> None:
    with pytest.raises(RelforgeError, match="other settings") as caught:
        compare(result("++"), result("++", **change), margin_points=2)
    assert caught.value.code is ExitCode.GATE
    assert all(part in (caught.value.why or "") for part in why.split("; "))


def test_another_tool_and_seed_may_be_compared_when_greedy() -> None:
    other = result("++", tool="lm-eval", tool_version="0.4", seed=5, task_sha256=HASH)
    assert compare(result("++"), other, margin_points=2).n == 2


def test_other_questions_are_not_compared() -> None:
    with pytest.raises(RelforgeError, match="unequal n"):
        compare(result("+++"), result("++"), margin_points=2)
    measured = result("++")
    renamed = measured.outcomes[1].model_copy(update={"id": "q7"})
    other = measured.model_copy(update={"outcomes": (measured.outcomes[0], renamed)})
    with pytest.raises(RelforgeError, match="other questions") as caught:
        compare(result("++"), other, margin_points=2)
    assert caught.value.why == "q7 is not in the reference"
    changed = measured.outcomes[1].model_copy(update={"expected": "5"})
    other = measured.model_copy(update={"outcomes": (measured.outcomes[0], changed)})
    with pytest.raises(RelforgeError, match="other questions"):
        compare(result("++"), other, margin_points=2)
