"""The statistics of paired outcomes, against papers, arithmetic, and simulated evaluations."""

from __future__ import annotations

import math
import random
import sys

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.statistics.judging import conclude
from relforge.evaluation.statistics.paired import mcnemar_p, tango_interval

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("only_first", "only_second", "n", "low", "high"),
    [
        # Fagerland, Lydersen, Laake (2014), Statistics in Medicine 33:2850: table 1, 1, 7, 12.
        (7, 1, 21, -0.517, -0.026),
        # Agresti, Min (2005), Statistics in Medicine 24:729: table 53, 16, 8, 9.
        (8, 16, 86, -0.020, 0.207),
    ],
)
def test_tango_gives_the_published_intervals(
    only_first: int, only_second: int, n: int, low: float, high: float
) -> None:
    got = tango_interval(only_first, only_second, n)
    assert (round(got[0], 3), round(got[1], 3)) == (low, high)


def _brute_force_interval(c: int, b: int, n: int) -> tuple[float, float]:
    """The same interval from its definition alone: the restricted likelihood is maximised by
    search, the bounds are found by bisection."""

    def log_likelihood(q: float, difference: float) -> float:
        total = 0.0
        for count, p in ((b, q + difference), (c, q), (n - b - c, 1 - 2 * q - difference)):
            if count:
                total += count * math.log(p) if p > 0 else -math.inf
        return total

    def score(difference: float) -> float:
        low, high = max(0.0, -difference), (1 - difference) / 2
        ratio = (math.sqrt(5) - 1) / 2
        for _ in range(200):
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            if log_likelihood(left, difference) < log_likelihood(right, difference):
                low = left
            else:
                high = right
        q = (low + high) / 2
        return ((b - c) / n - difference) / math.sqrt((2 * q + difference - difference**2) / n)

    def bisect(inner: float, outer: float) -> float:
        for _ in range(100):
            middle = (inner + outer) / 2
            if abs(score(middle)) < Z:
                inner = middle
            else:
                outer = middle
        return inner

    estimate = (b - c) / n
    # A hair off the estimate: with b = c = 0 the score there is 0/0.
    return bisect(estimate - 1e-9, -1 + 1e-9), bisect(estimate + 1e-9, 1 - 1e-9)


@pytest.mark.parametrize(
    ("only_first", "only_second", "n"),
    [(0, 0, 30), (0, 0, 1000), (1, 0, 44), (0, 3, 50), (4, 9, 100), (25, 28, 618), (60, 10, 500)],
)
def test_tango_equals_a_search_of_its_definition(only_first: int, only_second: int, n: int) -> None:
    assert tango_interval(only_first, only_second, n) == pytest.approx(
        _brute_force_interval(only_first, only_second, n), abs=1e-6
    )


def test_no_discordant_pair_still_leaves_uncertainty() -> None:
    low, high = tango_interval(0, 0, 1000)
    assert (low, high) == pytest.approx((-(Z**2) / (1000 + Z**2), Z**2 / (1000 + Z**2)), abs=1e-9)
    assert tango_interval(0, 0, 30)[1] > 0.1


def test_tango_mirrors_when_the_systems_change_places() -> None:
    low, high = tango_interval(12, 5, 200)
    assert tango_interval(5, 12, 200) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("n", [1, 7, 500])
def test_tango_reaches_the_edge_when_every_pair_is_discordant(n: int) -> None:
    assert tango_interval(n, 0, n)[0] == -1.0
    assert tango_interval(n, 0, n)[1] < 1.0
    assert tango_interval(0, n, n)[1] == 1.0


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="discordant"):
        tango_interval(*counts)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 5), (7, 1), (9, 20), (15, 15)])
def test_mcnemar_is_the_exact_binomial_sum(first: int, second: int) -> None:
    m = first + second
    tail = sum(math.comb(m, i) for i in range(min(first, second) + 1)) / 2**m
    assert mcnemar_p(first, second) == pytest.approx(min(1.0, 2 * tail))


def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(RelforgeError) as caught:
        tango_interval(1, 2, 30)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.hint == "pip install 'relforge[eval]'"


def _shares(seed: int, n: int, loss: float, gain: float, margin: float) -> dict[str, float]:
    """Shares of the conclusions over simulated evaluations: each question is lost with
    probability ``loss`` and won with probability ``gain``."""
    source = random.Random(seed)
    runs = 300
    counts = {"non-inferior": 0, "inferior": 0, "inconclusive": 0}
    for _ in range(runs):
        draws = [source.random() for _ in range(n)]
        lost = sum(draw < loss for draw in draws)
        won = sum(loss <= draw < loss + gain for draw in draws)
        low, high = tango_interval(lost, won, n)
        counts[conclude((100 * low, 100 * high), margin)] += 1
    return {name: count / runs for name, count in counts.items()}


def test_equal_systems_are_rarely_condemned() -> None:
    shares = _shares(1, n=1000, loss=0.025, gain=0.025, margin=2)
    assert shares["non-inferior"] >= 0.75
    assert shares["inferior"] <= 0.01


def test_a_loss_of_ten_points_is_found() -> None:
    assert _shares(2, n=500, loss=0.125, gain=0.025, margin=2)["inferior"] >= 0.95


def test_a_loss_of_just_the_margin_does_not_pass() -> None:
    assert _shares(3, n=1000, loss=0.035, gain=0.015, margin=2)["non-inferior"] <= 0.05
