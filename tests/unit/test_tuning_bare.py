"""The tuning that runs bare: verdicts on tokens, a process that dies, planted mistakes."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relforge.evaluation.statistics.judging import Pairs, judge
from relforge.manifest.project import builtin_root
from relforge.tuning.asking import BOTH, FRESH, SEARCH, Asked
from relforge.tuning.bare import __main__ as bare
from relforge.tuning.bare.agreeing import judged
from relforge.tuning.bare.gems import Gems
from relforge.tuning.bare.process import Unfit, Worker
from relforge.tuning.bare.texts import numbers
from relforge.tuning.bare.worker import add_options
from relforge.tuning.evidence import load_tuning

VERDICTS = {"non-inferior": "pass", "inferior": "fail", "inconclusive": "inconclusive"}

# A computing process without torch: four operators, b is faulty, c kills it, d hangs.
PROGRAM = """
import json, os, sys, time
mode = sys.argv[1]
if mode == "unfit":
    print(json.dumps({"unfit": "no device"}), flush=True)
    sys.exit(2)
if mode == "dies":
    sys.exit(7)
print(json.dumps({"about": {"pid": "some"}, "operators": ["a", "b", "c", "d"]}), flush=True)
for line in sys.stdin:
    row = json.loads(line)
    if row == "used":
        answer = {"used": ["a", "b"], "ended": "", "spoiled": False}
    else:
        on = set("abcd") - set(row["disabled"])
        if mode == "kills" and "c" in on:
            os._exit(9)
        if mode == "hangs" and "d" in on:
            time.sleep(60)
        bad = "b" in on
        answer = {"outcome": "fail" if bad else "pass", "reason": str(os.getpid()), "n": 3,
                  "spoiled": mode == "spoils" and bad}
    print(json.dumps(answer), flush=True)
"""


def worker(mode: str, timeout_s: float = 30.0) -> Worker:
    made = Worker([], timeout_s=timeout_s)
    made.argv = [sys.executable, "-c", PROGRAM, mode]
    return made


def without(names: str) -> Asked:
    return Asked(frozenset(names))


def test_the_verdict_is_that_of_the_consistency_check() -> None:
    chance = random.Random(4)
    seen = set()
    for _ in range(300):
        n = chance.randint(50, 1200)
        lost, won = chance.choice([0, 0.01, 0.03, 0.1]), chance.choice([0, 0.01, 0.02])
        native = [chance.random() < 0.9 for _ in range(n)]
        result = [chance.random() > lost if was else chance.random() < won for was in native]
        pairs = Pairs(
            sum(a and not b for a, b in zip(native, result, strict=True)),
            sum(b and not a for a, b in zip(native, result, strict=True)),
            n,
        )
        outcome, reason = judged(native, result, 2.0)
        assert outcome == VERDICTS[judge(pairs, margin_points=2.0).conclusion]
        assert f"{sum(result)} of {n} tokens right" in reason
        seen.add(outcome)
    assert seen == {"pass", "fail", "inconclusive"}


def test_the_halves_share_no_text_and_a_level_asks_more() -> None:
    search, fresh = (set(numbers(Asked(frozenset(), part, 2))) for part in (SEARCH, FRESH))
    assert not search & fresh
    assert set(numbers(Asked(frozenset(), BOTH, 2))) == search | fresh
    few = list(numbers(Asked(frozenset(), SEARCH, 0)))
    assert set(few) < search
    assert len(search) == 4 * len(few)


def test_a_process_that_dies_or_hangs_fails_and_is_replaced() -> None:
    with worker("kills") as process:
        assert process.hello()["operators"] == ["a", "b", "c", "d"]
        first = process.evaluate(without("bc")).reason
        assert process.evaluate(without("bc")).reason == first, "the same process"
        died = process.evaluate(without("b"))
        assert (died.outcome, died.reason) == ("fail", "the process ended with exit status 9")
        after = process.evaluate(without("bc"))
        assert after.outcome == "pass"
        assert after.reason != first
        assert process.used() == (["a", "b"], "")
    with worker("hangs", timeout_s=1.0) as process:
        hung = process.evaluate(without("b"))
        assert (hung.outcome, hung.reason) == ("fail", "the process did not answer within 1 s")
        assert process.evaluate(without("bd")).outcome == "pass"


def test_a_process_that_an_operator_spoiled_is_not_asked_again() -> None:
    with worker("spoils") as process:
        first = process.evaluate(without("b"))
        spoiled = process.evaluate(without(""))
        assert spoiled.outcome == "fail"
        assert "it left native torch computing otherwise" in spoiled.reason
        assert process.evaluate(without("b")).reason != first.reason


def test_a_process_that_cannot_start_says_why() -> None:
    with worker("unfit") as process, pytest.raises(Unfit, match="no device"):
        process.hello()
    with worker("dies") as process, pytest.raises(Unfit, match="exit status 7 before"):
        process.hello()


def test_the_program_finds_what_is_faulty_and_writes_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bare, "Worker", lambda options, timeout_s: worker("plain", timeout_s=timeout_s)
    )
    out = tmp_path / "tuning.json"
    assert bare.main(["--out", str(out), "--date", "2026-01-02", "--used-first"]) == 0
    loaded = load_tuning(out)
    assert loaded.tuning.culprits == ("b",)
    assert loaded.subject["date"] == "2026-01-02"
    # The verdicts are there: the next one starts nothing but asks what the operators are.
    rows = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert len(rows) == 1 + loaded.tuning.count()
    out.unlink()
    assert bare.main(["--out", str(out), "--used-first"]) == 0
    assert load_tuning(out).tuning == loaded.tuning
    assert bare.main(["--out", str(out), "--max-evaluations", "2"]) == 6
    assert load_tuning(out).tuning.state == "stopped"
    out.with_suffix(".jsonl").write_text("{}\n")
    assert bare.main(["--out", str(out)]) == 2


class Package:
    """What the tuning uses of FlagGems."""

    def __init__(self) -> None:
        def silu(x: Any) -> Any:
            return x

        def mul(x: Any) -> Any:
            return x

        def mul_scalar(x: Any) -> Any:
            return x

        mul_scalar.__name__ = "mul"
        self._FULL_CONFIG: Any = (
            ("silu", silu), ("mul.Tensor", mul, lambda: True), ("mul.Scalar", mul_scalar),
        )  # fmt: skip
        self.used: list[dict[str, Any]] = []

    def use_gems(self, **how: Any) -> AbstractContextManager[None]:
        self.used.append(how)
        return pytest.MonkeyPatch.context()  # type: ignore[return-value]


class Negated:
    def __init__(self) -> None:
        self.times = 0

    def neg_(self) -> None:
        self.times += 1


def test_operators_are_flaggems_functions_and_are_excluded_by_their_names() -> None:
    package = Package()
    gems = Gems(package)
    assert gems.operators == ["mul", "silu"]
    with gems.without(["mul"]):
        assert gems.enabled == {"silu"}
    assert package.used == [{"exclude": ["mul"], "record": False, "path": None}]


def test_planted_mistakes_show_when_they_should() -> None:
    package = Package()
    gems = Gems(package)
    gems.plant(["mul+silu"])
    entries = {entry[0]: entry for entry in package._FULL_CONFIG}
    assert len(entries["mul.Tensor"]) == 3, "conditions stay"
    for key in ("mul.Tensor", "mul.Scalar"):
        assert entries[key][1].__name__ == "mul"
        value = Negated()
        with gems.without([]):
            entries[key][1](value)
        assert value.times == 1
        with gems.without(["silu"]):
            entries[key][1](value)
        assert value.times == 1
    with pytest.raises(ValueError, match="FlagGems has no cat"):
        gems.plant(["silu+cat"])


def test_it_runs_with_nothing_installed_and_says_what_is_missing(tmp_path: Path) -> None:
    # No packages of this environment, as on a machine that has only Python.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "relforge.tuning.bare", "--out", tmp_path / "out.json"],
        env={"PYTHONPATH": str(builtin_root())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "No module named 'torch'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_worker_takes_every_option_that_decides_a_verdict() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert set(vars(parser.parse_args([]))) == {
        "dtype", "device", "attention", "seed", "margin_points", "exclude", "plant",
    }  # fmt: skip
    assert SimpleNamespace(**vars(parser.parse_args(["--plant", "a,b+c"]))).plant == "a,b+c"
