"""Which of two servers is faster: the statistics, by simulating machines that are not quiet."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from relforge.benching.deciding import (
    Conclusion,
    Ratio,
    block_effect,
    judge,
    looks,
    ratio_of,
    require,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import builtin_root

RUNS = 800


def simulate(
    log_ratio: float,
    *,
    noise: float,
    drift: Callable[[int], float] = lambda _run: 0.0,
    most_blocks: int = 12,
    runs: int = RUNS,
    seed: int = 1,
) -> dict[Conclusion, float]:
    """How often comparisons end how: *noise* is that of one run's logarithm, *log_ratio* the truth,
    *drift* what the machine adds to the run of that number."""
    random = np.random.default_rng(seed)
    planned = looks(most_blocks)
    ended: dict[Conclusion, float] = {}
    for _ in range(runs):
        effects: list[float] = []
        conclusion: Conclusion = "undecided"
        for block in range(most_blocks):
            order = "abba" if random.random() < 0.5 else "baab"
            values: dict[str, list[float]] = {"a": [], "b": []}
            for place, side in enumerate(order):
                log = drift(4 * block + place) + float(random.normal(0, noise))
                values[side].append(math.exp(log + (log_ratio if side == "b" else 0)))
            effects.append(block_effect(values["a"], values["b"]))
            if block + 1 in planned:
                ratio = ratio_of(effects, looks=len(planned))
                conclusion = judge(ratio, higher_is_better=True, margin_percent=5)
                if conclusion != "undecided":
                    break
        ended[conclusion] = ended.get(conclusion, 0) + 1 / runs
    return ended


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_two_equal_servers_are_told_apart_in_at_most_one_of_twenty_comparisons(
    noise: float,
) -> None:
    ended = simulate(0.0, noise=noise)
    wrong = ended.get("faster", 0) + ended.get("slower", 0)
    # 0.05 is what is promised; three standard errors of the simulation beside it.
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def test_a_difference_at_the_margin_is_seldom_called_equivalent() -> None:
    for truth in (math.log(1.05), -math.log(1.05)):
        assert simulate(truth, noise=0.02).get("equivalent", 0) <= 0.05


def test_equal_servers_on_a_quiet_machine_are_called_equivalent() -> None:
    assert simulate(0.0, noise=0.02).get("equivalent", 0) >= 0.95


@pytest.mark.parametrize(
    ("factor", "noise", "power"), [(0.5, 0.2, 0.95), (0.8, 0.1, 0.95), (0.9, 0.05, 0.9)]
)
def test_a_slower_server_is_found(factor: float, noise: float, power: float) -> None:
    ended = simulate(math.log(factor), noise=noise)
    assert ended.get("slower", 0) >= power, ended
    assert ended.get("faster", 0) <= 0.01


def test_a_machine_that_gets_slower_all_the_time_favours_neither() -> None:
    """10 % slower with each run: what is measured second in a pair would lose every time."""
    ended = simulate(0.0, noise=0.02, drift=lambda run: -0.1 * run)
    assert ended.get("slower", 0) + ended.get("faster", 0) <= 0.05


def test_a_linear_drift_cancels_within_a_block() -> None:
    drift = [math.exp(-0.3 * place) for place in range(4)]
    assert block_effect([drift[0], drift[3]], [drift[1], drift[2]]) == pytest.approx(0)
    assert block_effect([1, 1], [2, 8]) == pytest.approx(math.log(4))


def test_the_interval_is_students_of_the_blocks_at_a_share_of_the_error() -> None:
    effects = [0.1, 0.3, 0.2, 0.4]
    got = ratio_of(effects, looks=4)
    half = stats.t.ppf(1 - 0.05 / 4 / 2, 3) * np.std(effects, ddof=1) / 2
    assert got.ratio == pytest.approx(math.exp(0.25))
    assert (got.low, got.high) == pytest.approx((math.exp(0.25 - half), math.exp(0.25 + half)))
    assert ratio_of(effects, looks=1).low > got.low, "one look may be sharper"


def test_figures_that_never_differ_have_an_interval_without_a_warning() -> None:
    assert ratio_of([0.5, 0.5, 0.5], looks=4) == Ratio(
        ratio=math.exp(0.5), low=math.exp(0.5), high=math.exp(0.5)
    )


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "conclusion"),
    [
        (1.10, 1.30, True, "faster"), (1.10, 1.30, False, "slower"),
        (0.70, 0.90, True, "slower"), (0.70, 0.90, False, "faster"),
        (0.90, 1.01, True, "undecided"), (0.99, 1.04, True, "equivalent"),
        (1.01, 1.04, True, "equivalent"), (1.01, 1.06, True, "faster"),
        (0.96, 1.049, False, "equivalent"), (0.95, 1.00, True, "undecided"),
        (1.0, 1.2, True, "undecided"),
    ],
)  # fmt: skip
def test_what_an_interval_says(
    low: float, high: float, higher_is_better: bool, conclusion: Conclusion
) -> None:
    ratio = Ratio(ratio=math.sqrt(low * high), low=low, high=high)
    assert judge(ratio, higher_is_better=higher_is_better, margin_percent=5) == conclusion


def test_looks_are_planned_and_end_with_the_last_block() -> None:
    assert looks(12) == (3, 5, 8, 12)
    assert looks(3) == (3,)
    assert looks(6) == (3, 5, 6)
    with pytest.raises(ValueError, match="decide nothing"):
        looks(2)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(RelforgeError, match="needs SciPy") as raised:
        require()
    assert raised.value.code is ExitCode.ENVIRONMENT
    assert raised.value.hint == "pip install 'relforge[bench]'"


def test_the_figures_in_the_docs_are_those_of_the_simulation() -> None:
    text = (builtin_root() / "docs" / "benchmarks.md").read_text()
    head = "| B against A | noise | slower | faster | equivalent | undecided |"
    rows = text[text.index(head) :].split("\n\n", 1)[0].splitlines()[2:]
    assert len(rows) == 7
    for row in rows:
        percent, noise, *shares = (cell.strip() for cell in row.strip("|").split("|"))
        truth = math.log(1 + float(percent.removesuffix("%")) / 100)
        ended = simulate(truth, noise=float(noise))
        names: tuple[Conclusion, ...] = ("slower", "faster", "equivalent", "undecided")
        assert [round(100 * ended.get(name, 0)) for name in names] == list(map(int, shares)), row
