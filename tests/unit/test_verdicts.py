"""What a verdict is worth: its chances, summed exactly and simulated, and what it rests on."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.compare import compare
from relforge.evaluation.interface import EvaluationResult, EvaluationSettings, Outcome
from relforge.evaluation.statistics.clustered import design_effect
from relforge.evaluation.statistics.independent import newcombe_interval, newcombe_score
from relforge.evaluation.statistics.judging import (
    Judgement,
    Pairs,
    Sample,
    Shares,
    conclude,
    judge,
    n_to_decide,
    overall,
)
from tests.support.chances import of_pairs, of_shares, of_two_samples

Z = 1.959963984540054


def result(right: list[bool], groups: list[str] | None = None) -> EvaluationResult:
    settings = EvaluationSettings(
        task="addition",
        questions_sha256="a" * 64,
        n=len(right),
        shots=0,
        temperature=0.0,
        max_tokens=8,
        stop=("\n",),
        prompt_template="{{question}}",
        tool="test",
        tool_version="1",
    )
    outcomes = tuple(
        Outcome(
            id=f"q{i}",
            question=f"{i}+1=",
            expected=str(i + 1),
            answer=str(i + 1 if one else 0),
            correct=one,
            group=groups[i] if groups else None,
        )
        for i, one in enumerate(right)
    )
    return EvaluationResult(settings=settings, outcomes=outcomes)


# ---------------------------------------------------------------- chances


def test_equal_models_pass_and_are_not_condemned() -> None:
    chances = of_pairs(1000, lost=0.025, won=0.025)
    assert chances.non_inferior >= 0.75
    assert chances.inferior <= 0.01


@pytest.mark.parametrize(("lost", "won"), [(0.11, 0.01), (0.125, 0.025), (0.15, 0.05)])
def test_a_loss_of_ten_points_is_condemned(lost: float, won: float) -> None:
    assert of_pairs(500, lost=lost, won=won).inferior >= 0.95


@pytest.mark.parametrize("n", [30, 100, 198, 500, 1000, 1319])
@pytest.mark.parametrize("won", [0.0, 0.005, 0.015, 0.05, 0.15])
def test_a_loss_of_just_the_margin_is_passed_and_condemned_by_chance_alone(
    n: int, won: float
) -> None:
    chances = of_pairs(n, lost=won + 0.02, won=won)
    assert max(chances) <= 0.05


@pytest.mark.parametrize("n", [30, 100, 198, 500, 1319])
@pytest.mark.parametrize("accuracy", [0.3, 0.5, 0.85, 0.95, 0.99, 1.0])
def test_the_same_where_only_shares_are_known(n: int, accuracy: float) -> None:
    chances = of_two_samples(n, accuracy=accuracy, loss=0.02)
    assert max(chances) <= 0.05


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95])
def test_shares_of_the_same_questions_are_judged_more_carefully_than_pairs(accuracy: float) -> None:
    pairs = of_pairs(500, lost=0.035, won=0.015)
    shares = of_shares(500, accuracy=accuracy, lost=0.035, won=0.015)
    assert max(shares) <= 0.05
    assert shares.non_inferior <= pairs.non_inferior


@pytest.mark.parametrize(
    ("seed", "n", "lost", "won", "verdict", "least", "most"),
    [
        (11, 1000, 0.025, 0.025, "non-inferior", 0.75, 1.0),
        (12, 1000, 0.025, 0.025, "inferior", 0.0, 0.01),
        (13, 500, 0.125, 0.025, "inferior", 0.95, 1.0),
        (14, 1000, 0.035, 0.015, "non-inferior", 0.0, 0.05),
    ],
)
def test_simulated_evaluations_get_these_verdicts(
    seed: int, n: int, lost: float, won: float, verdict: str, least: float, most: float
) -> None:
    """Whole comparisons of evidence, drawn question by question."""
    source, runs = random.Random(seed), 120
    found = 0
    for _ in range(runs):
        draws = [source.random() for _ in range(n)]
        easy = [source.random() < 0.9 for _ in range(n)]
        before = [
            draw < lost or (draw >= lost + won and ok) for draw, ok in zip(draws, easy, strict=True)
        ]
        after = [
            lost <= draw and (draw < lost + won or ok) for draw, ok in zip(draws, easy, strict=True)
        ]
        found += compare(result(before), result(after), margin_points=2).conclusion == verdict
    assert least <= found / runs <= most


# ---------------------------------------------------------------- intervals of shares


@pytest.mark.parametrize(
    ("second", "first", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:873, table II, method 10, (d), (e) and (g).
        (9, 3, 10, 0.1705, 0.8090),
        (6, 2, 7, 0.0582, 0.8062),
        (10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_newcombe_gives_the_published_intervals(
    second: int, first: int, n: int, low: float, high: float
) -> None:
    got = newcombe_interval(first, second, n)
    assert (round(got[0], 4), round(got[1], 4)) == (low, high)


@pytest.mark.parametrize(("first", "second", "n"), [(1263, 1254, 1319), (30, 30, 30), (0, 0, 9)])
def test_an_interval_ends_where_its_score_says(first: int, second: int, n: int) -> None:
    low, high = newcombe_interval(first, second, n)
    assert newcombe_score(first, second, n, low) == pytest.approx(Z, abs=1e-6)
    assert newcombe_score(first, second, n, high) == pytest.approx(-Z, abs=1e-6)
    observed = (second - first) / n
    assert newcombe_score(first, second, n, observed) == 0.0
    assert newcombe_score(first, second, n, observed - 5e-12) == pytest.approx(0.0, abs=1e-4)


def test_shares_mirror_when_the_systems_change_places() -> None:
    low, high = newcombe_interval(120, 115, 200)
    assert newcombe_interval(115, 120, 200) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(("first", "second", "n"), [(11, 3, 10), (-1, 3, 10), (0, 0, 0)])
def test_impossible_shares_are_refused(first: int, second: int, n: int) -> None:
    with pytest.raises(ValueError, match="cannot be right"):
        newcombe_interval(first, second, n)
    with pytest.raises(ValueError, match="cannot be right"):
        newcombe_score(first, second, n, 0.0)


def test_without_statsmodels_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.stats.proportion", None)
    with pytest.raises(RelforgeError, match="needs statsmodels") as caught:
        judge(Shares(9, 8, 10), margin_points=2)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.hint == "pip install 'relforge[eval]'"


# ---------------------------------------------------------------- how many would decide


@pytest.mark.parametrize(
    "sample",
    [
        Shares(1263, 1254, 1319),
        Shares(30, 30, 30),
        Shares(22, 20, 30),
        Pairs(0, 0, 30),
        Pairs(25, 20, 500),
        Pairs(25, 12, 500),
        Pairs(25, 20, 500, design_effect=3.0),
    ],
)
def test_n_to_decide_is_the_smallest_that_decides(sample: Sample) -> None:
    n = n_to_decide(sample, margin_points=2)
    assert n is not None

    def verdict(count: int) -> str:
        low, high = sample.at(count).interval(0.95)
        return conclude((100 * low, 100 * high), 2)

    assert judge(sample, margin_points=2).n_to_decide == n
    assert verdict(n) != "inconclusive"
    assert verdict(n - 1) == "inconclusive"


@pytest.mark.parametrize("sample", [Pairs(20, 0, 1000), Shares(500, 480, 1000)])
def test_no_n_decides_a_loss_of_just_the_margin(sample: Sample) -> None:
    judged = judge(sample, margin_points=2)
    assert (judged.conclusion, judged.n_to_decide) == ("inconclusive", None)
    assert judged.p_inferior == pytest.approx(0.5)


def test_what_is_decided_asks_for_no_more() -> None:
    assert judge(Pairs(0, 0, 1000), margin_points=2).n_to_decide is None
    assert judge(Shares(500, 0, 500), margin_points=2).n_to_decide is None


def test_p_values_say_what_the_interval_says() -> None:
    for lost in range(0, 60, 3):
        for sample in (Pairs(lost, 10, 500), Shares(450, 460 - lost, 500)):
            judged = judge(sample, margin_points=2)
            assert (judged.p_non_inferior < 0.025) == (judged.conclusion == "non-inferior")
            assert (judged.p_inferior < 0.025) == (judged.conclusion == "inferior")
            assert judged.p_inferior + judged.p_non_inferior == pytest.approx(1.0)


# ---------------------------------------------------------------- several tasks


def of(conclusion: str, p_inferior: float) -> Judgement:
    judged = judge(Pairs(0, 0, 30), margin_points=2)
    changes: dict[str, Any] = {
        "conclusion": conclusion,
        "p_inferior": p_inferior,
        "p_non_inferior": 1 - p_inferior,
    }
    return judged.model_copy(update=changes)


def test_all_tasks_have_to_be_non_inferior() -> None:
    good = of("non-inferior", 0.98)
    assert overall([good, good]).conclusion == "non-inferior"
    assert overall([good, of("inconclusive", 0.9)]).conclusion == "inconclusive"


def test_one_bad_task_of_many_has_to_be_bad_enough() -> None:
    good = of("non-inferior", 0.999999)
    # Holm: the smallest of six p-values is compared with 2.5 % / 6.
    assert overall([good] * 5 + [of("inferior", 0.02)]).conclusion == "inconclusive"
    condemned = overall([good] * 5 + [of("inferior", 0.004)])
    assert condemned.conclusion == "inferior"
    assert condemned.each == ("non-inferior",) * 5 + ("inferior",)
    assert overall([of("inferior", 0.02)]).conclusion == "inferior"


def test_what_holds_of_every_task_is_said_after_holm() -> None:
    # 2.5 % / 3, 2.5 % / 2, 2.5 %: the second fails, so the third is not looked at.
    rows = [of("non-inferior", 1 - p) for p in (0.001, 0.02, 0.024)]
    assert overall(rows).each == ("non-inferior", "inconclusive", "inconclusive")
    rows = [of("non-inferior", 1 - p) for p in (0.024, 0.012, 0.008)]
    assert overall(rows).each == ("non-inferior",) * 3


def test_no_task_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="no task"):
        overall([])


# ---------------------------------------------------------------- groups


def test_questions_that_stand_alone_are_not_changed_by_groups() -> None:
    before, after = [True] * 90 + [False] * 10, [True] * 85 + [False] * 10 + [True] * 5
    alone = compare(result(before), result(after), margin_points=2)
    named = [f"g{i}" for i in range(100)]
    assert compare(result(before, named), result(after, named), margin_points=2) == alone
    assert alone.groups is None


def test_repeats_of_one_question_promise_no_more_than_the_question() -> None:
    before = [True] * 45 + [False] * 5
    after = [True] * 42 + [False] * 6 + [True] * 2
    once = compare(result(before), result(after), margin_points=2)
    repeated = [f"q{i}" for i in range(50) for _ in range(8)]
    often = compare(
        result([one for one in before for _ in range(8)], repeated),
        result([one for one in after for _ in range(8)], repeated),
        margin_points=2,
    )
    assert (often.n, often.groups, often.difference_points) == (400, 50, once.difference_points)
    widths = [high - low for low, high in (once.interval_points, often.interval_points)]
    assert widths[1] == pytest.approx(widths[0], rel=0.08)
    assert widths[1] >= widths[0]
    naive = compare(
        result([one for one in before for _ in range(8)]),
        result([one for one in after for _ in range(8)]),
        margin_points=2,
    )
    assert naive.interval_points[1] - naive.interval_points[0] < widths[0] / 2
    assert naive.p_value < often.p_value


def test_the_design_effect_is_the_quotient_of_both_variances() -> None:
    differences = [-1, -1, 0, 0, 1, 0, 0, 0]
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    mean = sum(differences) / 8
    by_group = [-2 - 2 * mean, -2 * mean, 1 - 2 * mean, -2 * mean]
    quotient = 4 / 3 * sum(x * x for x in by_group) / sum((d - mean) ** 2 for d in differences)
    # Student's t with 3 degrees of freedom at 97.5 %: 3.182446.
    assert design_effect(differences, groups) == pytest.approx(quotient * (3.182446 / Z) ** 2)


def test_without_any_difference_a_group_counts_once() -> None:
    groups = ["a"] * 10 + ["b"] * 10
    assert design_effect([0] * 20, groups) == pytest.approx(10.0)
    grouped = compare(result([True] * 20, groups), result([True] * 20, groups), margin_points=2)
    low, high = grouped.interval_points
    assert (low, high) == pytest.approx((-100 * Z**2 / (2 + Z**2), 100 * Z**2 / (2 + Z**2)))


def test_one_group_alone_is_refused() -> None:
    one = result([True, False], ["a", "a"])
    with pytest.raises(RelforgeError, match="one group"):
        compare(one, one, margin_points=2)
    with pytest.raises(ValueError, match="one group"):
        design_effect([0, 1], ["a", "a"])


def test_other_groups_are_not_compared() -> None:
    with pytest.raises(RelforgeError, match="other groups") as caught:
        compare(
            result([True] * 4, ["a", "a", "b", "b"]),
            result([True] * 4, ["a", "b", "b", "b"]),
            margin_points=2,
        )
    assert caught.value.why == "q1 is in 'a' in the reference, 'b' in the result"


def test_repeats_do_not_let_a_loss_of_just_the_margin_pass() -> None:
    """100 questions, each asked five times with the same outcome; simulated."""
    source, runs = random.Random(21), 400
    groups = [f"q{i}" for i in range(100) for _ in range(5)]
    passed = naive = 0
    for _ in range(runs):
        each = [source.choices((-1, 1, 0), (0.07, 0.05, 0.88))[0] for _ in range(100)]
        differences = [one for one in each for _ in range(5)]
        lost, won = differences.count(-1), differences.count(1)
        effect = design_effect(differences, groups)
        passed += judge(Pairs(lost, won, 500, effect), margin_points=2).conclusion == "non-inferior"
        naive += judge(Pairs(lost, won, 500), margin_points=2).conclusion == "non-inferior"
    assert passed / runs <= 0.05
    assert naive / runs > 0.1
