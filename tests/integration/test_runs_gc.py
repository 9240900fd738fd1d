"""``relforge runs gc`` beside real runs: it says who works, waits for them, and takes nothing that
a run goes on with."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from relforge.evidence.reading_runs import list_runs
from tests.integration.test_two_runs import CHECKOUT, _start
from tests.support.made_homes import Home, aged, tree
from tests.support.toys import ToyRelease, noted, plan_of

GO_ON = """
import sys
from pathlib import Path
from relforge.cancel import CancelToken
from relforge.executor.local import LocalExecutor
from relforge.in_use import using
from relforge.manifest.site import Site
from relforge.running.runner import Runner
from tests.support.toys import PIPELINE, ToyRelease, plan_of
home, name, sleep_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
words = {stage: f"{stage} {name}" for stage in ("make", "test")}
toy = ToyRelease(name=name, words={"fetch": "shared", **words},
                 does={one: {"sleep_s": sleep_s} for one in ("fetch", "make", "test")})
with using(home, f"toy {name}", on_wait=print):
    runner = Runner(home=home, executor=LocalExecutor(), site=Site(), dist=home.parent / "dist",
                    cancel=CancelToken())
    outcome = runner.run(plan_of(home, toy), PIPELINE, "toy")
sys.exit(outcome.error.code if outcome.error else 0)
"""


@pytest.fixture
def made(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.home.mkdir()
    site = {"kind": "site", "home": str(made.home), "dist": str(made.dist)}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    return made


def _gc(made: Home, *words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", "from relforge.cli import main; main()", "runs", "gc", *words]
    return subprocess.Popen(
        [*argv, "--no-engine", "--site", made.folder / "site.yaml", "--project", made.project],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT,
    )  # fmt: skip


def _toy(made: Home, name: str, sleep_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", GO_ON, str(made.home), name, str(sleep_s)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT,
        env={**os.environ},
    )  # fmt: skip


def _code(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def _output(made: Home, *words: str) -> dict[str, Any]:
    process = _gc(made, *words, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_beside_a_run_it_says_who_or_waits(made: Home) -> None:
    run = _start(made.home, "first")
    try:
        refused = _gc(made, "--older-than", "0")
        _, err = refused.communicate(timeout=60)
        assert refused.returncode == 3
        assert f"process {run.pid} of user root (toy, for" in err
        assert "next:" in err
        # Looking disturbs nobody.
        assert _output(made, "--older-than", "0", "--dry-run")["dry_run"] is True
        waiting = _gc(made, "--older-than", "0", "--keep-last", "0", "--wait")
        assert waiting.stderr is not None
        assert f"waiting: process {run.pid}" in waiting.stderr.readline()
    finally:
        out, _ = run.communicate("\n", timeout=60)
    assert "done" in out
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    # It came after the run's end: what the release used last is needed.
    toy = ToyRelease(name="first", words=dict.fromkeys(("fetch", "make", "test"), "same"),
                     does={"fetch": {"sleep_s": 2.0}})  # fmt: skip
    statuses = {one.name: one.status for one in plan_of(made.home, toy).stages}
    assert statuses == {"look": "reuse", "fetch": "reuse", "make": "reuse", "test": "reuse"}


def test_a_dry_run_changes_no_byte_and_says_what_will_go(made: Home) -> None:
    made.result("build", "old", 90, blobs=("old",), folder=True)
    made.result("build", "young", 1, blobs=("young",))
    made.run("20260901T000000Z-aaaaaa", 90, {})
    before = tree(made.folder)
    would = _output(made, "--dry-run", "--keep-last", "0")
    assert tree(made.folder) == before
    process = _gc(made, "--dry-run", "--keep-last", "0")
    out, _ = process.communicate(timeout=60)
    assert tree(made.folder) == before
    for one in would["gone"]:
        assert one["name"] in out
        assert one["why"] in out
    did = _output(made, "--keep-last", "0")
    assert did["gone"] == would["gone"]
    assert did["freed_bytes"] == would["freed_bytes"] > 0
    # Who collects notes itself in the home's lock.
    assert 0 < did["home_bytes"] - would["home_bytes"] < 400


def test_what_went_is_done_anew_and_the_rest_is_not(made: Home) -> None:
    for name in ("alpha", "beta"):
        assert _code(_toy(made, name, 0.0)) == 0
    # Nothing remembers beta any more; what alpha shares with it is alpha's.
    (made.home / "store" / "latest" / "beta.json").unlink()
    output = _output(made, "--older-than", "0", "--keep-last", "0")
    assert sorted(one["name"].split()[0] for one in output["gone"] if one["kind"] == "result") == [
        "make", "test",
    ]  # fmt: skip
    begun = len(noted(made.home, "end"))
    for name in ("alpha", "beta"):
        assert _code(_toy(made, name, 0.0)) == 0
    assert noted(made.home, "end")[begun:] == ["look beta", "make beta", "test beta"]


def test_two_runs_and_a_collector_that_is_killed_again_and_again(made: Home) -> None:
    """Everybody gets on: the runs end well, and each stage was done once."""
    chance = random.Random(8)
    runs = [_toy(made, name, 1.5) for name in ("alpha", "beta")]
    killed = 0
    until = time.monotonic() + 60
    while any(one.poll() is None for one in runs) and time.monotonic() < until:
        collector = _gc(made, "--older-than", "0", "--keep-last", "0", "--wait")
        time.sleep(chance.uniform(0.5, 2.5))
        killed += collector.poll() is None
        collector.send_signal(signal.SIGKILL)
        collector.communicate()
    assert [_code(one) for one in runs] == [0, 0]
    assert killed
    assert (
        sorted(noted(made.home, "end")).count("fetch alpha")
        + sorted(noted(made.home, "end")).count("fetch beta")
        == 1
    )
    assert {run.state for run in list_runs(made.home)} <= {"done"}
    aged(made.home / "store" / "locks", 90)
    output = _output(made, "--older-than", "0", "--keep-last", "0")
    assert [one for one in output["gone"] if one["kind"] == "result"] == []
    assert len(list((made.home / "store" / "results").glob("*/*.json"))) == 5
    assert list((made.home / "store" / "locks").iterdir()) == []


def test_a_killed_run_that_goes_on_does_only_what_went(made: Home) -> None:
    run = _toy(made, "alpha", 1.5)
    while "make alpha" not in noted(made.home, "begin"):
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    # Its run is the newest of the release: it stays, with what it had done.
    output = _output(made, "--older-than", "0", "--keep-last", "1")
    assert [one for one in output["gone"] if one["kind"] in ("result", "run")] == []
    assert output["kept_runs"][0]["why"] == "it is among the newest 1 of alpha"
    assert _code(_toy(made, "alpha", 1.5)) == 0
    assert noted(made.home, "end").count("fetch alpha") == 1
