"""Runs on disk: one whose process is gone without a word is shown as killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from relforge.events import EVENT
from relforge.evidence.reading_runs import as_told, list_runs, load_run
from relforge.evidence.run_folder import RunFolder
from relforge.evidence.runs import Asked, ReleaseRun, Run

KILLED = """
import os, signal, sys, time
from pathlib import Path
from relforge.evidence.run_folder import RunFolder
from relforge.evidence.runs import ReleaseRun, Run
from relforge.events import StageFinished, StageLine, StageStarted
folder = RunFolder(Path(sys.argv[1]), "run-1")
folder.write(Run(id="run-1", command="relforge build", started_s=1.0,
                 releases=(ReleaseRun(release="hello-cpu_x86"),)))
def started(stage):
    folder.event(StageStarted(release="hello-cpu_x86", stage=stage, time_s=time.time()))
def finished(stage):
    folder.event(StageFinished(release="hello-cpu_x86", stage=stage, status="ran", verdict=None,
                               detail="2 trees", seconds=1.25, time_s=time.time()))
started("sources")
folder.event(StageLine(release="hello-cpu_x86", stage="sources", text="fetching", time_s=1.0))
finished("sources")
if sys.argv[2] == "build":
    started("build")
folder._events.write('{"type": "stage-li')
folder._events.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_run(home: Path, during: str = "build") -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, home, during], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_killed_run_is_shown_as_killed_with_what_it_did(tmp_path: Path) -> None:
    kill_a_run(tmp_path)
    (run,) = list_runs(tmp_path)
    assert run.state == "killed"
    assert run.error == "killed during build"
    assert [(s.name, s.status, s.seconds, s.detail) for s in run.releases[0].stages] == [
        ("sources", "ran", 1.25, "2 trees")
    ]
    assert run.ended_s == (tmp_path / "runs" / "run-1" / "events.jsonl").stat().st_mtime
    assert load_run(tmp_path, "run").state == "killed"
    written = json.loads((tmp_path / "runs" / "run-1" / "run.json").read_text())
    assert written["state"] == "running", "looking at a run must not change it"


def test_killed_between_two_stages(tmp_path: Path) -> None:
    kill_a_run(tmp_path, "sources")
    assert load_run(tmp_path, "run-1").error == "killed between two stages"


def test_a_run_at_work_is_running_and_a_finished_one_is_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run-1")
    run = Run(id="run-1", command="relforge build", started_s=1.0)
    folder.write(run)
    assert [r.state for r in list_runs(tmp_path)] == ["running"]
    # As seen from another pid namespace: the owner is not known, but its lock is held.
    owner = tmp_path / "runs" / "run-1" / "owner"
    boot, pid, start = owner.read_text().split(":")
    with owner.open("r+") as file:
        file.write(f"{boot}:{pid}:{int(start) - 1}")
        file.truncate()
    assert [r.state for r in list_runs(tmp_path)] == ["running"]
    folder.close()
    assert [r.state for r in list_runs(tmp_path)] == ["killed"]
    folder = RunFolder(tmp_path, "run-1")
    folder.write(run.model_copy(update={"state": "done", "ended_s": 2.0}))
    folder.close()
    assert [r.state for r in list_runs(tmp_path)] == ["done"]


def test_a_run_of_which_nobody_knows_the_owner_stays_as_it_is(tmp_path: Path) -> None:
    kill_a_run(tmp_path)
    (tmp_path / "runs" / "run-1" / "owner").unlink()
    assert [r.state for r in list_runs(tmp_path)] == ["running"]


def test_runs_list_and_show_say_killed(tmp_path: Path) -> None:
    kill_a_run(tmp_path)
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"kind": "site", "home": str(tmp_path)}))
    for words, wanted in (("list", "killed"), ("show run-1", "killed during build")):
        argv = [sys.executable, "-c", "from relforge.cli import main; main()", "runs"]
        done = subprocess.run(
            [*argv, *words.split(), "--site", site], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout


def test_of_a_run_that_goes_on_the_last_attempt_is_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run-1")
    names = ("done", "failed", "cut-off")
    started = Run(
        id="run-1", command="relforge release", started_s=1.0,
        releases=tuple(ReleaseRun(release=name) for name in names),
    )  # fmt: skip
    folder.write(started)
    times = iter(range(1, 100))

    def tell(kind: str, **words: object) -> None:
        folder.event(EVENT.validate_python({"type": kind, **words, "time_s": float(next(times))}))

    def begun(attempt: int) -> None:
        tell("run-started", run="run-1", command="", releases=names, attempt=attempt)

    def ended(release: str, stage: str, status: str) -> None:
        tell("stage-started", release=release, stage=stage)
        tell(
            "stage-finished",
            release=release,
            stage=stage,
            status=status,
            verdict=None,
            detail="",
            seconds=1.0,
        )

    begun(1)
    ended("done", "build", "ran")
    tell(
        "release-finished",
        release="done",
        state="done",
        exit_code=0,
        error=None,
        next=None,
        seconds=1.0,
    )
    ended("failed", "sources", "ran")
    ended("failed", "build", "failed")
    tell(
        "release-finished",
        release="failed",
        state="failed",
        exit_code=5,
        error="boom",
        next="x",
        seconds=1.0,
    )
    tell("stage-started", release="cut-off", stage="build")
    before, at_work = as_told(started, folder.path)
    assert at_work == {"cut-off": "build"}
    assert before.release("failed").error == "boom"

    begun(2)
    again, at_work = as_told(started, folder.path)
    assert at_work == {}
    assert again.release("done").state == "done"
    assert again.release("failed") == ReleaseRun(
        release="failed", stages=again.release("failed").stages
    )
    assert [one.name for one in again.release("failed").stages] == ["sources"]
    tell("stage-started", release="failed", stage="build")
    _, at_work = as_told(started, folder.path)
    assert at_work == {"failed": "build"}
    folder.close()


def test_the_command_that_goes_on_names_project_and_site() -> None:
    assert Asked().resuming("r") == "relforge release --resume r"
    asked = Asked(project="/p q", site="/s.yaml")
    assert asked.resuming("r") == ("relforge release --resume r --project '/p q' --site /s.yaml")
