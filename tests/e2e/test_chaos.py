"""Runs killed at random: relforge, the engine under it, a host of the cluster, at any moment.

Each goes on with what is left and ends with the very images of an undisturbed run; nothing stays
behind. Five seeds, one of them on a cluster; with RELFORGE_LONG=1 seventy, and thirty on one.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from relforge.events import StageFinished, StageStarted
from relforge.evidence.reading_runs import list_runs, read_events
from tests.support.chaos import Engine, Scene, digests_in, made, must, nothing_left, words
from tests.support.ray_fleet import Fleet, Worker, fleet

pytestmark = pytest.mark.timeout(900)
RAY_STARTS_S = 3.0
"""How long a driver takes until it sends its first job."""
LONG = bool(os.environ.get("RELFORGE_LONG"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("chaos")
    engine = Engine(root / "engine")
    engine.up()
    try:
        yield made(root, engine)
    finally:
        engine.purge()


@pytest.mark.parametrize("seed", range(70 if LONG else 4))
def test_whatever_is_killed_the_run_ends_with_the_same_images(scene: Scene, seed: int) -> None:
    dice = random.Random(seed)
    work = scene.root / f"seed-{seed}"
    site = scene.site(work)
    since = work / "since"
    since.touch()
    at = ["--project", str(scene.project), "--site", str(site)]
    told = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        victim = dice.choice(("process", "process", "engine"))
        after_s = dice.uniform(0.1, scene.seconds)
        told.append(f"{victim} after {after_s:.1f} s")
        disturb(scene, words(work, at), victim, after_s)
    ended_well(scene, work, at, told, since)


def ended_well(
    scene: Scene,
    work: Path,
    at: list[str],
    told: list[str],
    since: Path,
    homes: Sequence[Path] = (),
) -> None:
    """The last run of the home comes to its end: the images are right, and nothing is left."""
    done = subprocess.run(words(work, at), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (told, done.stderr)
    assert digests_in(work / "dist") == scene.digests, told
    states = [run.state for run in list_runs(work / "home")]
    assert set(states) <= {"done"}, (told, states)
    assert nothing_left(scene, work, since, homes), told
    for name in scene.digests:
        must("verify", work / "dist" / name, "--site", work / "site.yaml")
    shutil.rmtree(work)


@dataclass
class Hosts:
    """Two hosts of a cluster with homes of their own, both on the scene's engine."""

    scene: Scene
    fleet: Fleet
    homes: dict[str, Path]
    alive: dict[str, Worker]
    started: int = 0

    def start(self, name: str) -> None:
        """That host joins, anew with the home that it had, and as a new node of the cluster."""
        self.started += 1
        settings = self.scene.settings(self.homes[name])
        project = str(self.scene.project)
        self.alive[name] = self.fleet.join(
            f"{name}-{self.started}", "--device", "cpu_x86", "--project", project, **settings
        )


@pytest.fixture(scope="module")
def hosts(scene: Scene) -> Iterator[Hosts]:
    with fleet(scene.root / "fleet") as found:
        homes = {name: scene.home(scene.root / name) for name in ("north", "south")}
        every = Hosts(scene, found, homes, {})
        for name in homes:
            every.start(name)
        yield every


@pytest.mark.parametrize("seed", range(30 if LONG else 1))
def test_whichever_host_is_killed_the_run_ends_with_the_same_images(
    scene: Scene, hosts: Hosts, seed: int
) -> None:
    dice = random.Random(1000 + seed)
    work = scene.root / f"ray-{seed}"
    ray = {"address": hosts.fleet.address, "token_file": str(hosts.fleet.token)}
    site = scene.site(work, ray=ray)
    since = work / "since"
    since.touch()
    at = ["--project", str(scene.project), "--site", str(site), "--executor", "ray"]
    told = []
    victims = ["host", *dice.sample(("host", "process", "engine"), dice.choice((0, 1)))]
    for victim in victims:
        after_s = dice.uniform(0.0, scene.seconds / 3)
        if victim != "host":
            told.append(f"{victim} after {after_s:.1f} s")
            disturb(scene, words(work, at), victim, RAY_STARTS_S + after_s)
            continue
        with subprocess.Popen(
            words(work, at), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as run:
            first = a_job(work / "home", run)
            assert first is not None or len(told) > 0, "no job was sent"
            if first is not None:
                time.sleep(after_s)
                host, stage = a_job(work / "home", run) or first
                told.append(f"{host} in {stage} after {after_s:.1f} s")
                name = host.partition("-")[0]
                hosts.alive[name].kill()
                hosts.start(name)
            _, said = run.communicate(timeout=600)
        # Its jobs went to the other host, or waited for it; nobody had to resume.
        assert run.returncode == 0, (told, said)
    ended_well(scene, work, at, told, since, tuple(hosts.homes.values()))


def a_job(home: Path, run: subprocess.Popen[str]) -> tuple[str, str] | None:
    """A host and the stage that it is at, as soon as there is one; None: the run has ended."""
    while run.poll() is None:
        open_: dict[tuple[str, str], str] = {}
        newest = max((home / "runs").glob("*"), default=None)
        for event in read_events(newest) if newest else ():
            if isinstance(event, StageStarted) and event.host is not None:
                open_[event.release, event.stage] = event.host
            elif isinstance(event, StageFinished):
                open_.pop((event.release, event.stage), None)
        for (_, stage), host in open_.items():
            return host, stage
        time.sleep(0.05)
    return None


def disturb(scene: Scene, argv: list[str], victim: str, after_s: float) -> None:
    """Starts a run and kills it, or the engine, which is then started again."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            run.wait(after_s)
            return  # it was quicker
        except subprocess.TimeoutExpired:
            pass
        if victim == "process":
            run.kill()
        else:
            scene.engine.kill()
            run.wait(300)
            scene.engine.up()
