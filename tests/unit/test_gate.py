"""The gate of several tasks: what passes, what fails, and what is compared before any number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.gate import Compared, Gate, Measured, Reported, against, together
from relforge.evaluation.gating import task_input, task_inputs
from relforge.evaluation.interface import (
    Asked,
    Evaluated,
    EvaluationResult,
    EvaluationSettings,
    Outcome,
    Prepared,
)
from relforge.evaluation.oddities import oddities
from relforge.manifest.evaluation import Evaluation, EvaluationTask
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.reference import AskedWith, ReferenceFigure

PROJECT = Project((builtin_root(),))


def settings(n: int = 1000, **changes: Any) -> EvaluationSettings:
    given: dict[str, Any] = {
        "task": "sums", "questions_sha256": "1" * 64, "n": n, "shots": 0, "temperature": 0.0,
        "max_tokens": 8, "stop": ("\n",), "prompt_template": "{{question}}", "tool": "lm-eval",
        "tool_version": "0.4.13",
    }  # fmt: skip
    return EvaluationSettings(**{**given, **changes})


def result(n: int = 1000, *, wrong: int, start: int = 0, **changes: Any) -> EvaluationResult:
    """Wrong are the questions from ``start`` on."""
    outcomes = tuple(
        Outcome(
            id=str(i),
            question=f"{i}+1=",
            expected=str(i + 1),
            answer=str(i + 1 + (start <= i < start + wrong)),
            correct=not start <= i < start + wrong,
        )
        for i in range(n)
    )
    return EvaluationResult(settings=settings(n, **changes), outcomes=outcomes)


def measured(before: EvaluationResult, after: EvaluationResult, earlier: int = 0) -> Compared:
    return against(
        Measured(name="reference.json", result=before),
        Evaluated(result=after, from_earlier=earlier),
        margin_points=2,
    )


def reported(percent: float, after: EvaluationResult, **changes: Any) -> Compared:
    figure = ReferenceFigure(task="sums", metric="accuracy", value=percent, **changes)
    return against(Reported(name="paper", figure=figure), Evaluated(result=after), margin_points=2)


GOOD = (result(wrong=60), result(wrong=60, start=2, task="good"))
BAD = (result(wrong=60), result(wrong=160, task="bad"))
OPEN = (result(30, wrong=2), result(30, wrong=2, task="open"))


def verdicts(gate: Gate) -> tuple[str, str, list[str]]:
    return gate.conclusion, gate.verdict, [one.conclusion for one in gate.tasks]


@pytest.mark.parametrize(
    ("tasks", "conclusion", "verdict"),
    [
        ([GOOD], "non-inferior", "pass"),
        ([BAD], "inferior", "fail"),
        ([OPEN], "inconclusive", "inconclusive"),
        ([GOOD, GOOD], "non-inferior", "pass"),
        ([GOOD, OPEN], "inconclusive", "inconclusive"),
        ([GOOD, BAD, OPEN], "inferior", "fail"),
    ],
)
def test_the_weakest_task_decides(tasks: list[Any], conclusion: str, verdict: str) -> None:
    gate = together([measured(*one) for one in tasks])
    assert verdicts(gate)[:2] == (conclusion, verdict)
    assert len(gate.tasks) == len(tasks)
    assert all(one.basis == "measured" for one in gate.tasks)


def test_each_task_says_its_numbers() -> None:
    (one,) = together([measured(*BAD, earlier=300)]).tasks
    assert (one.task, one.n, one.margin_points) == ("bad", 1000, 2)
    assert (one.reference_correct, one.result_correct) == (940, 840)
    assert (one.only_reference, one.only_result) == (100, 0)
    assert (one.reference_percent, one.result_percent) == (94.0, 84.0)
    assert one.difference_points == pytest.approx(-10)
    assert one.interval_points[1] < -2
    assert one.from_earlier_runs == 300
    assert one.reference == "reference.json"


def test_one_of_many_tasks_that_is_just_bad_is_held_by_holm() -> None:
    # Alone its interval lies below the margin; among twenty such a one is there by luck.
    weak = (result(wrong=60), result(wrong=110, start=200, task="weak"))
    alone = together([measured(*weak)])
    assert alone.verdict == "fail"
    many = together([measured(*weak), *(measured(*GOOD) for _ in range(19))])
    assert many.tasks[0].conclusion == "inferior"
    assert many.tasks[0].held == "inconclusive"
    assert many.verdict == "inconclusive"


# ---------------------------------------------------------------- reported references


def test_a_reported_figure_proves_nothing_and_can_fail() -> None:
    fine = together([reported(90.0, result(wrong=20), n=1000)])
    assert verdicts(fine) == ("non-inferior", "not-run", ["non-inferior"])
    assert fine.tasks[0].basis == "reported"
    assert "no task has a measured reference" in fine.reason
    assert "against a reported figure of 90 %" in fine.reason
    lost = together([reported(99.0, result(wrong=100), n=1000)])
    assert verdicts(lost) == ("inferior", "fail", ["inferior"])
    open_ = together([reported(94.0, result(wrong=60), n=1000)])
    assert verdicts(open_) == ("inconclusive", "not-run", ["inconclusive"])


def test_a_reported_figure_beside_a_measured_one() -> None:
    unclear = reported(94.0, result(wrong=60), n=1000)
    assert together([measured(*GOOD), unclear]).verdict == "pass"
    assert together([measured(*OPEN), reported(90.0, result(wrong=20), n=1000)]).verdict == (
        "inconclusive"
    )
    assert together([measured(*GOOD), reported(99.0, result(wrong=100), n=1000)]).verdict == "fail"


def test_a_reported_figure_of_another_n_or_other_settings_is_refused() -> None:
    prepared = Prepared(settings=settings(), questions=(), indices={})
    figure = ReferenceFigure(
        task="sums", metric="accuracy", value=90.0, n=1000, settings=AskedWith(shots=0)
    )
    Reported(name="paper", figure=figure).refuse_unlike(prepared)
    for changes, words in (
        ({"n": 999}, "reference 999, result 1000"),
        ({"settings": AskedWith(shots=5)}, "shots: 5, 0"),
        ({"settings": AskedWith(temperature=0.6)}, "temperature: 0.6, 0.0"),
        ({"settings": AskedWith(max_tokens=2048)}, "max_tokens: 2048, 8"),
        ({"settings": AskedWith(prompt="Q: {{question}}")}, "prompt: "),
    ):
        other = Reported(name="paper", figure=figure.model_copy(update=changes))
        with pytest.raises(RelforgeError) as caught:
            other.refuse_unlike(prepared)
        assert caught.value.code is ExitCode.GATE
        assert words in (caught.value.why or "")


# ---------------------------------------------------------------- settings before numbers


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"questions_sha256": "2" * 64}, "questions_sha256"),
        ({"shots": 5}, "shots: 0, 5"),
        ({"temperature": 0.7}, "temperature: 0.0, 0.7"),
        ({"max_tokens": 16}, "max_tokens: 8, 16"),
        ({"prompt_template": "Q: {{question}}"}, "prompt_template"),
        ({"stop": ("\n", "Q:")}, "stop"),
        ({"endpoint": "chat"}, "endpoint: 'completions', 'chat'"),
        ({"output_type": "multiple_choice"}, "output_type"),
        ({"metric": "acc"}, "metric"),
        ({"filter": "strict-match"}, "filter"),
        ({"top_p": 0.9}, "top_p"),
    ],
)
def test_a_setting_that_differs_is_found_before_anything_is_asked(
    changes: dict[str, Any], words: str
) -> None:
    before = result(40, wrong=2)
    asked = tuple(Asked(id=str(i), question=f"{i}+1=", expected=str(i + 1)) for i in range(40))
    reference = Measured(name="reference.json", result=before)
    reference.refuse_unlike(Prepared(settings=settings(40), questions=asked, indices={}))
    with pytest.raises(RelforgeError, match="other settings") as caught:
        reference.refuse_unlike(
            Prepared(settings=settings(40, **changes), questions=asked, indices={})
        )
    assert caught.value.code is ExitCode.GATE
    assert words in (caught.value.why or "")


def test_the_seed_counts_where_sampling_uses_it() -> None:
    greedy, sampled = settings(seed=1), settings(seed=1, temperature=0.7)
    assert greedy.differences(settings(seed=2)) == []
    assert sampled.differences(settings(seed=2, temperature=0.7)) == ["seed: 1, 2"]


def test_more_questions_than_the_reference_answered() -> None:
    asked = tuple(Asked(id=str(i), question="?", expected="!") for i in range(41))
    with pytest.raises(RelforgeError, match="1 of 41 questions have no outcome") as caught:
        Measured(name="r", result=result(40, wrong=2)).refuse_unlike(
            Prepared(settings=settings(41), questions=asked, indices={})
        )
    assert caught.value.code is ExitCode.GATE


def test_another_version_of_the_tool_is_a_note_and_no_refusal() -> None:
    after = result(wrong=60, tool_version="0.4.14")
    gate = together([measured(result(wrong=60), after)])
    assert gate.verdict == "pass"
    note = "tool_version: 0.4.13, 0.4.14 (reference, this image)"
    assert gate.tasks[0].notes == (note,)
    assert note in gate.reason


def test_other_examples_in_the_prompts_are_refused() -> None:
    def sent(sha256: str) -> EvaluationResult:
        made = result(10, wrong=1)
        outcomes = tuple(o.model_copy(update={"prompt_sha256": sha256}) for o in made.outcomes)
        return made.model_copy(update={"outcomes": outcomes})

    measured(sent("a" * 64), sent("a" * 64))
    measured(result(10, wrong=1), sent("a" * 64))
    with pytest.raises(RelforgeError, match="sent other prompts"):
        measured(sent("a" * 64), sent("b" * 64))


# ---------------------------------------------------------------- odd answers


def answers(n: int, **given: str) -> EvaluationResult:
    made = result(n, wrong=0)
    outcomes = tuple(
        o.model_copy(update={"answer": given[f"_{o.id}"], "correct": False})
        if f"_{o.id}" in given
        else o
        for o in made.outcomes
    )
    return made.model_copy(update={"outcomes": outcomes})


def test_empty_answers_are_wrong_and_counted_and_said() -> None:
    after = answers(1000, _1="", _2=" \n", _3="x")
    gate = together([measured(result(wrong=0), after)])
    assert gate.tasks[0].odd.empty == 2
    assert gate.tasks[0].result_correct == 997
    assert "2 answers are empty (the reference has 0)" in gate.reason


def test_one_text_in_place_of_many_answers_is_said() -> None:
    words = {f"_{i}": "Internal server error" for i in range(12)}
    found = oddities(answers(1000, **words))
    assert (found.same, found.same_answer) == (12, "Internal server error")
    assert found.words() == ("12 questions have the same wrong answer: 'Internal server error'",)
    assert oddities(answers(1000, _1="2", _2="2")).words() == ()


def test_answers_that_were_cut_are_counted() -> None:
    made = result(10, wrong=0)
    outcomes = tuple(o.model_copy(update={"cut": True}) for o in made.outcomes[:3])
    cut = made.model_copy(update={"outcomes": outcomes + made.outcomes[3:]})
    assert oddities(cut).words(oddities(made)) == (
        "3 answers are cut at the limit of tokens (the reference has 0)",
    )


# ---------------------------------------------------------------- manifests


FILE = "examples/tasks/tiny_adder_addition.yaml"


def test_one_task_or_several_in_a_manifest() -> None:
    short = Evaluation(task=FILE, questions=10, margin_points=2, seed=3, concurrency=4)
    long = Evaluation(
        tasks=(EvaluationTask(task=FILE, questions=10, margin_points=2, seed=3),), concurrency=4
    )
    assert short.each == long.each
    assert Evaluation.model_validate(short.model_dump(mode="json")) == short
    assert Evaluation.model_validate(long.model_dump(mode="json")) == long


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"task": FILE, "questions": 10}, "margin_points is missing; or list several under tasks"),
        ({}, "task is missing"),
        ({"tasks": []}, "task is missing"),
        (
            {"task": FILE, "tasks": [{"task": FILE, "questions": 1, "margin_points": 2}]},
            "task stands beside tasks",
        ),
        ({"tasks": [{"task": FILE, "questions": 1, "margin_points": 2}] * 2}, "twice"),
        (
            {"tasks": [{"task": FILE, "questions": 1, "margin_points": 2, "shots": 5}]},
            "shots is said by the task file itself",
        ),
        (
            {"tasks": [{"task": "../t.yaml", "questions": 1, "margin_points": 2}]},
            "relative",
        ),
        (
            {
                "tasks": [
                    {
                        "task": "gsm8k",
                        "questions": 1,
                        "margin_points": 2,
                        "datasets": {"openai/gsm8k": "main"},
                    }
                ]
            },
            "datasets",
        ),
    ],
)
def test_what_a_manifest_may_not_say(content: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Evaluation.model_validate(content)
    assert words in str(caught.value)


def test_the_shipped_release_is_compared_with_its_models_answers() -> None:
    release = PROJECT.release("tiny-adder-cpu_x86")
    (found,) = task_inputs(PROJECT, release, PROJECT.model("tiny-adder"))
    assert found.name == "tiny_adder_addition"
    loaded = found.reference.load(PROJECT)
    assert isinstance(loaded, Measured)
    assert Path(loaded.name).name == "reference.json"


def test_a_task_takes_a_reference_by_name() -> None:
    model = PROJECT.model("deepseek-r1")
    declared = EvaluationTask(
        task="gsm8k",
        questions=1319,
        margin_points=2,
        reference="deepseek-r1-nvidia_h100-cuda",
        datasets={"openai/gsm8k": "a" * 40},
    )
    loaded = task_input(PROJECT, model, declared).reference.load(PROJECT)
    assert isinstance(loaded, Reported)
    assert (loaded.figure.task, loaded.figure.value) == ("GSM8K", 95.75)
    other = declared.model_copy(update={"task": "hellaswag"})
    with pytest.raises(RelforgeError, match="hellaswag has no reference to compare with"):
        task_input(PROJECT, model, other)
    without = declared.model_copy(update={"reference": None})
    with pytest.raises(RelforgeError, match="gsm8k has no reference") as caught:
        task_input(PROJECT, model, without)
    assert caught.value.code is ExitCode.USAGE
