"""The search for operators to disable: exact sets, few evaluations, doubtful verdicts, limits."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from relforge.tuning.asking import BOTH, FRESH, SEARCH, Asked, Evaluation, Found, Limits
from relforge.tuning.minimal import minimal, smallest_hitting_set
from relforge.tuning.search import Interaction, tune
from tests.support.tuning import fails, fewest, model, names, noisy


def bound(count: int, total: int) -> float:
    return 2 * count * math.log2(total)


@pytest.mark.parametrize("total", range(1, 10))
def test_every_set_of_culprits_among_few_operators_is_found_within_the_bound(total: int) -> None:
    operators = names(total)
    for count in range(1, total + 1):
        for faulty in itertools.combinations(operators, count):
            found = tune(operators, model(faulty))
            assert (found.state, found.culprits) == ("done", faulty)
            assert found.confirmed
            assert found.smallest
            assert found.count("search") <= bound(count, total)


def test_among_as_many_as_flaggems_has_all_evaluations_together_are_within_the_bound() -> None:
    chance = random.Random(5)
    for turn in range(400):
        total, count = chance.randint(91, 600), chance.choice([1, 1, 2, 3, 5, 8, 16])
        operators = names(total)
        # Anywhere, side by side, and at the end, where halving finds them last.
        start = chance.randrange(total - count + 1)
        faulty = (
            tuple(sorted(chance.sample(operators, count), key=operators.index)),
            tuple(operators[start : start + count]),
            tuple(operators[-count:]),
        )[turn % 3]
        found = tune(operators, model(faulty))
        assert found.culprits == faulty
        assert found.smallest
        assert found.count() <= bound(count, total)


def test_one_of_398_takes_at_most_10_evaluations_to_find_and_15_in_all() -> None:
    operators = names(398)
    for one in operators:
        found = tune(operators, model([one]))
        assert found.culprits == (one,)
        assert found.count("search") <= 10
        assert found.count() <= 15


def test_suspects_that_are_enough_clear_all_others_in_one_evaluation() -> None:
    operators, suspects = names(398), [f"op_{number}" for number in range(0, 398, 20)]
    found = tune(operators, model(["op_200"]), suspects=suspects)
    assert found.culprits == ("op_200",)
    assert found.count("search") <= 7
    missed = tune(operators, model(["op_201"]), suspects=suspects)
    assert missed.culprits == ("op_201",), "suspects that are not enough cost one evaluation"
    assert missed.count("search") <= 11


def test_operators_that_clash_are_disabled_as_few_as_can_be() -> None:
    chance = random.Random(9)
    for _ in range(300):
        operators = names(chance.randint(3, 11))
        faulty = chance.sample(operators, chance.randint(0, 2))
        together = [
            chance.sample(operators, chance.randint(2, 3)) for _ in range(chance.randint(1, 3))
        ]
        found = tune(operators, model(faulty, together))
        assert found.state == "done"
        assert found.smallest
        assert not fails(found.culprits, faulty, together)
        assert len(found.culprits) == fewest(operators, faulty, together)


def test_a_pair_that_clashes_is_named_and_one_of_it_disabled() -> None:
    found = tune(names(300), model([], [("op_5", "op_100")]))
    assert len(found.culprits) == 1
    (clash,) = found.interactions
    assert {clash.operator, *clash.others} == {"op_5", "op_100"}
    assert clash.operator == found.culprits[0]
    assert found.count() <= 2 * bound(1, 300)


def test_the_one_that_clashes_with_many_goes_instead_of_the_many() -> None:
    together = [("op_1", "op_200"), ("op_2", "op_200"), ("op_3", "op_200")]
    operators = names(300)
    # The search meets op_1 to op_3 first when op_200 stands behind them in the order.
    found = tune([*operators[::-1]], model([], together))
    assert found.culprits == ("op_200",)
    assert found.smallest
    assert tune(operators, model([], together)).culprits == ("op_200",)


def test_of_what_disabling_breaks_again_nothing_is_kept_that_can_go() -> None:
    # Not monotone: op_3 has to be disabled, and disabling op_1 without op_2 breaks other things.
    def evaluate(asked: Asked) -> Found:
        off = asked.disabled
        bad = "op_3" not in off or ("op_1" in off and "op_2" not in off)
        return Found("fail" if bad else "pass", "")

    for order in itertools.permutations(names(5)):
        found = tune(order, evaluate)
        assert found.state == "done"
        assert found.culprits == ("op_3",)


def test_innocents_that_the_search_blames_are_given_back() -> None:
    # On the search's own questions one operator looks bad that is not.
    def evaluate(asked: Asked) -> Found:
        bad = "op_3" not in asked.disabled
        unlucky = asked.part == SEARCH and "op_7" not in asked.disabled and len(asked.disabled) > 1
        return Found("fail" if bad or unlucky else "pass", "")

    found = tune(names(16), evaluate)
    assert found.culprits == ("op_3",)
    assert found.given_back == ("op_7",)


def test_verdicts_of_which_2_percent_are_wrong_seldom_mislead() -> None:
    ends: Counter[tuple[str, bool]] = Counter()
    evaluations = []
    for seed in range(300):
        operators = names(300)
        faulty = sorted(random.Random(seed).sample(operators, 1 + seed % 3), key=operators.index)
        found = tune(
            operators,
            noisy(faulty, wrong=0.02, inconclusive=0.2, seed=seed),
            Limits(evaluations=400, levels=3),
        )
        ends[found.state, found.culprits == tuple(faulty)] += 1
        evaluations.append(found.count())
    assert ends["done", True] >= 0.97 * 300
    assert ends["done", False] <= 0.02 * 300
    assert sum(evaluations) / 300 < 50


def test_inconclusive_verdicts_are_asked_again_with_more_questions() -> None:
    asked: list[Asked] = []

    def evaluate(one: Asked) -> Found:
        asked.append(one)
        if one.level < 2:
            return Found("inconclusive", "too few questions")
        return model(["op_4"])(one)

    found = tune(names(8), evaluate, Limits(levels=3))
    assert found.culprits == ("op_4",)
    assert found.count() == len(asked) == 3 * len({(one.disabled, one.part) for one in asked})


def test_what_stays_inconclusive_is_neither_called_fixed_nor_blamed() -> None:
    def undecided(asked: Asked) -> Found:
        verdict = model(["op_4"])(asked)
        # Without op_4 it is better, but nobody can tell whether good enough.
        few = verdict.outcome == "pass" and len(asked.disabled) < 3
        return Found("inconclusive", "") if few else verdict

    found = tune(names(8), undecided)
    assert found.state == "done"
    assert "op_4" in found.culprits
    assert len(found.culprits) == 3, "what is known to pass"
    assert not found.smallest

    def never(asked: Asked) -> Found:
        return Found("inconclusive", "") if asked.part == FRESH else model(["op_4"])(asked)

    fresh = tune(names(8), never)
    assert (fresh.state, fresh.confirmed) == ("unconfirmed", False)
    assert fresh.culprits == ("op_4",)


def test_where_the_operators_are_not_the_cause_nothing_is_searched() -> None:
    for outcome, state in (
        ("pass", "nothing-fails"), ("fail", "not-the-operators"),
        ("inconclusive", "nothing-fails"),
    ):  # fmt: skip
        found = tune(names(50), lambda _, outcome=outcome: Found(outcome, ""))  # type: ignore[misc]
        assert found.state == state
        assert found.culprits == found.suspects == ()
        assert found.count() == found.count("baseline") <= 4


def test_a_set_that_fresh_questions_refute_is_searched_on() -> None:
    # Only the fresh questions show op_9, only the others show op_2.
    def evaluate(asked: Asked) -> Found:
        shown = {SEARCH: ["op_2"], FRESH: ["op_9"], BOTH: ["op_2", "op_9"]}[asked.part]
        return Found("fail" if fails(asked.disabled, shown) else "pass", "")

    found = tune(names(32), evaluate)
    assert found.state == "done"
    assert found.culprits == ("op_2", "op_9")
    assert found.confirmed


@pytest.mark.parametrize("most", range(1, 16))
def test_a_limit_ends_it_with_a_set_that_is_known_to_pass(most: int) -> None:
    operators, faulty = names(398), ["op_50", "op_300"]
    found = tune(operators, model(faulty), Limits(evaluations=most))
    assert found.state == "stopped"
    assert found.count() == most
    assert f"stopped after {most} evaluations" in found.reason
    if most > 1:
        assert not fails([*found.culprits, *found.suspects], faulty)
    if most > 4:
        assert len(found.suspects) < 398
    assert set(found.culprits) <= set(faulty)


def test_a_time_limit_lets_the_evaluation_that_runs_end() -> None:
    now = [0.0]

    def evaluate(asked: Asked) -> Found:
        now[0] += 60
        return model(["op_4"])(asked)

    found = tune(names(100), evaluate, Limits(seconds=300), clock=lambda: now[0])
    assert found.state == "stopped"
    assert found.reason == "stopped after 300 s"
    assert found.count() == 5


def test_every_evaluation_is_told_when_it_was_made_and_none_is_made_twice() -> None:
    told: list[Evaluation] = []
    operators = names(64)
    found = tune(operators, model(["op_1", "op_40"]), told=told.append)
    assert tuple(told) == found.evaluations
    assert len({one.asked for one in told}) == len(told)
    with pytest.raises(ValueError, match="named twice"):
        tune(["a", "a"], model(["a"]))
    with pytest.raises(ValueError, match="not among the operators: c"):
        tune(["a", "b"], model(["a"]), suspects=["c"])


def test_what_an_evaluation_raises_ends_the_search() -> None:
    def evaluate(asked: Asked) -> Found:
        raise OSError("no engine")

    with pytest.raises(OSError, match="no engine"):
        tune(names(3), evaluate)


def test_minimal_and_hitting_sets() -> None:
    assert minimal("abcdefgh", lambda some: {"c", "f"} <= set(some)) == ["f", "c"]
    assert minimal("abc", lambda _: True) == []
    assert minimal("abc", lambda some: "z" in some, kept=["z"]) == ["z"]
    with pytest.raises(ValueError, match="does not"):
        minimal("a", lambda _: False)
    sets = [frozenset("ab"), frozenset("ac"), frozenset("ad")]
    assert smallest_hitting_set(sets, 3) == frozenset("a")
    assert smallest_hitting_set([frozenset("a"), frozenset("b")], 2) is None
    with pytest.raises(OverflowError):
        smallest_hitting_set([frozenset(names(200))], 5)


def test_interactions_name_the_others() -> None:
    found = tune(names(64), model(["op_10"], [("op_3", "op_20", "op_30")]))
    assert found.smallest
    (clash,) = found.interactions
    assert isinstance(clash, Interaction)
    assert {clash.operator, *clash.others} == {"op_3", "op_20", "op_30"}
    assert found.culprits in {
        tuple(sorted(["op_10", one], key=names(64).index)) for one in ("op_3", "op_20", "op_30")
    }
