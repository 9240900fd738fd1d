"""Several releases in one command, with a real engine: what fails, is shared, is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from relforge.events import StageFinished, StageLine, StageStarted
from relforge.evidence.reading_runs import list_runs, read_events
from relforge.evidence.runs import Run
from tests.e2e.conftest import Result, command, containers, relforge, site_settings
from tests.support.hello_fleet import make_project, make_site

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Fleet:
    project: Path
    site: Path
    home: Path
    dist: Path
    names: tuple[str, ...]

    def words(self, *words: str) -> list[str]:
        return ["release", *words, "--project", str(self.project), "--site", str(self.site)]

    def release(self, *words: str) -> Result:
        return relforge(*self.words(*words))

    @property
    def run(self) -> Run:
        (found,) = list_runs(self.home)
        return found

    def edit(self, name: str, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
        path = self.project / "manifests" / "releases" / f"{name}.yaml"
        manifest = yaml.safe_load(path.read_text())
        change(manifest)
        path.write_text(yaml.safe_dump(manifest))


@pytest.fixture
def fleet(tmp_path: Path, hello_home: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """As many releases as the test asks for, by default 2."""
    home, dist = tmp_path / "home", tmp_path / "dist"
    home.mkdir()
    shared = Path(site_settings()["home"]) / "base"
    (home / "base").symlink_to((hello_home / "base").resolve() if not shared.is_dir() else shared)
    names = make_project(tmp_path / "project", getattr(request, "param", 2))
    site = make_site(
        tmp_path / "site.yaml", tmp_path, site_settings(), home=str(home), dist=str(dist),
        limits={"cpu_cores": 4},
    )  # fmt: skip
    yield Fleet(tmp_path / "project", site, home, dist, names)
    assert containers() == [], "a test left a container behind"


@pytest.mark.parametrize("fleet", [4], indirect=True)
def test_each_that_fails_is_told_with_its_cause_and_the_others_are_done(fleet: Fleet) -> None:
    good, broken, wrong, other = fleet.names
    fleet.edit(broken, lambda m: m["build"]["packages"][0]["native"].update(commands=[["false"]]))
    path = fleet.project / "manifests" / "releases" / f"{wrong}.yaml"
    whole = path.read_text()
    path.write_text(whole.replace("port: 8000", "prot: 8000"))
    done = fleet.release("--all", "--jobs", "3", "--json")
    assert done.code == 5, done.stderr
    table = done.stderr[done.stderr.index(f"  ✓ {good}") :].splitlines()
    assert table[0].startswith(f"  ✓ {good}  done")
    assert f"✗ {broken}  failed       build: the build failed at" in done.stderr
    assert "next: read the log; " in table[2]
    assert f"✗ {wrong}  not planned" in done.stderr
    assert f"{path}:" in done.stderr, "where the manifest is wrong"
    assert table[-2] == "  2 of 4 releases are done"
    run = fleet.run
    assert table[-1] == f"  to go on with what is left: {run.asked.resuming(run.id)}"
    assert f"--site {fleet.site}" in table[-1]
    assert {one.release: one.state for one in run.releases} == {
        good: "done", broken: "failed", wrong: "failed", other: "done",
    }  # fmt: skip
    assert [one["release"] for one in done.json["releases"]] == [good, broken, other]
    assert [one["release"] for one in done.json["not_started"]] == [wrong]
    assert sorted(p.name for p in fleet.dist.iterdir() if p.is_dir()) == [good, other]
    # What they share was fetched once, whichever came first.
    fetched = [
        event
        for event in read_events(fleet.home / "runs" / run.id)
        if isinstance(event, StageFinished) and event.stage == "sources" and event.status == "ran"
    ]
    assert len(fetched) == 1

    # The cause is mended, and the run goes on; another input is another run.
    path.write_text(whole)
    again = fleet.release("--resume", run.id)
    assert again.code == 5, again.stderr
    assert fleet.run.release(wrong).state == "done"
    fleet.edit(
        broken,
        lambda m: m["build"]["packages"][0]["native"].update(
            commands=[["python3", "setup.py", "build_ext"]]
        ),
    )
    refused = fleet.release("--resume", run.id)
    assert refused.code == 2
    assert f"{broken} is not what it was when the run began" in refused.stderr


def test_ctrl_c_once_stops_containers_and_the_run_goes_on_later(fleet: Fleet) -> None:
    with started(fleet, "--all", "--jobs", "2", "--until", "evaluate") as run:
        wait_for(fleet, "evaluate")
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    assert containers() == []
    stopped = fleet.run
    assert stopped.state == "interrupted"
    done = fleet.release("--resume", stopped.id)
    assert done.code == 0, done.stderr
    assert fleet.run.state == "done"
    assert {one.state for one in fleet.run.releases} == {"done"}


def test_ctrl_c_twice_stops_at_once_and_the_state_is_good(fleet: Fleet) -> None:
    with started(fleet, "--all", "--jobs", "2", "--until", "evaluate") as run:
        wait_for(fleet, "evaluate")
        run.send_signal(signal.SIGINT)
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert run.wait(60) == 130
        assert time.monotonic() - began < 10
    stopped = fleet.run
    assert stopped.state in ("interrupted", "killed")
    done = fleet.release("--resume", stopped.id)
    assert done.code == 0, done.stderr
    assert fleet.run.state == "done"
    assert not [p for p in (fleet.home / "work").iterdir() if p.is_dir()]


def started(fleet: Fleet, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*fleet.words(*words)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )


def wait_for(fleet: Fleet, stage: str) -> None:
    """Until a release is in the middle of a stage: its server is up."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for folder in (fleet.home / "runs").glob("*"):
            events = list(read_events(folder))
            begun = {e.release for e in events if isinstance(e, StageStarted) and e.stage == stage}
            ended = {e.release for e in events if isinstance(e, StageFinished) and e.stage == stage}
            talks = {e.release for e in events if isinstance(e, StageLine) and e.stage == stage}
            if (begun & talks) - ended and containers():
                return
        time.sleep(0.05)
    pytest.fail(f"no release reached {stage}")
