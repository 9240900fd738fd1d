"""Two relforge processes in one home: the second waits for the first, or says who it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from relforge.evidence.reading_runs import list_runs
from tests.integration.test_locks import another
from tests.support.toys import noted

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = """
import sys
from contextlib import nullcontext
from pathlib import Path
from relforge.cancel import CancelToken
from relforge.executor.local import LocalExecutor
from relforge.in_use import using
from relforge.locks import not_waiting
from relforge.manifest.site import Site
from relforge.running.runner import Runner
from relforge.ui.console import PlainListener
from tests.support.toys import PIPELINE, ToyRelease, plan_of
home = Path(sys.argv[1])
toy = ToyRelease(name=sys.argv[2], words=dict.fromkeys(("fetch", "make", "test"), "same"),
                 does={"fetch": {"sleep_s": 2.0}})
with not_waiting() if "--no-wait" in sys.argv else nullcontext(), using(home, "toy"):
    plan = plan_of(home, toy)
    print("planned", flush=True)
    sys.stdin.readline()
    runner = Runner(home=home, executor=LocalExecutor(), site=Site(), dist=home / "dist",
                    cancel=CancelToken(), listeners=(PlainListener(),))
    outcome = runner.run(plan, PIPELINE, "toy")
print(outcome.error or "done")
sys.exit(outcome.error.code if outcome.error else 0)
"""


def _start(home: Path, *words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(home), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=CHECKOUT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "planned\n"
    return process


def _two(home: Path, *words: str) -> tuple[subprocess.Popen[str], tuple[str, str], int]:
    """Both have planned before either works; the first is at its first stage when the second
    begins."""
    home.mkdir()
    first, second = _start(home, "first"), _start(home, "second", *words)
    assert first.stdin is not None
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.stderr is not None
    while not first.stderr.readline().startswith("> fetch"):
        assert first.poll() is None
    told = second.communicate("\n", timeout=60)
    assert "done" in first.communicate(timeout=60)[0]
    return first, told, second.returncode


def test_the_second_waits_says_for_whom_and_takes_the_result(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first, (out, err), code = _two(home)
    assert (code, out) == (0, "done\n")
    (line,) = [row for row in err.splitlines() if row.startswith("- fetch waits")]
    assert f"for process {first.pid} of user root (fetch of first, for " in line
    assert noted(home).count("fetch first") == 1
    assert "fetch second" not in noted(home)
    (run,) = [run for run in list_runs(home) if run.releases[0].release == "second"]
    events = (home / "runs" / run.id / "events.jsonl").read_text().splitlines()
    (waiting,) = [one for one in map(json.loads, events) if one["type"] == "stage-waiting"]
    assert f"process {first.pid}" in waiting["why"]
    assert "waiting: process" in (home / "runs" / run.id / "second/logs/fetch.log").read_text()


def test_without_waiting_the_second_fails_and_says_who_works(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first, (out, _), code = _two(home, "--no-wait")
    assert code == 3
    assert "fetch of second: another relforge works here" in out
    assert f"process {first.pid} of user root (fetch of first" in out


def _relforge(home: Path, *words: str) -> subprocess.Popen[str]:
    site = home.parent / "site.yaml"
    site.write_text(json.dumps({"kind": "site", "home": str(home)}))
    return subprocess.Popen(
        [sys.executable, "-c", "from relforge.cli import main; main()", *words, "--site", site],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT,
        env={**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    )  # fmt: skip


def test_a_verb_waits_for_a_collector_unless_it_is_told_not_to(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with another(home, "alone") as collector:
        words = ("build", "--device", "cpu_x86")
        refused = _relforge(home, *words, "--no-wait")
        _, err = refused.communicate(timeout=60)
        assert refused.returncode == 3
        assert f"process {collector.pid} of user root (a purpose" in err
        # Looking needs nobody's leave.
        looking = _relforge(home, "runs", "--json")
        assert json.loads(looking.communicate(timeout=60)[0]) == {"runs": []}
        waiting = _relforge(home, *words)
        assert waiting.stderr is not None
        assert f"waiting: process {collector.pid}" in waiting.stderr.readline()
        assert collector.stdin is not None
        collector.stdin.close()
    _, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 3, "it went on, and there is no engine"
    assert "engine" in err
