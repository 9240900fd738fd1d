"""Runs that are killed at random: relforge, or the engine under it, at any moment.

Each goes on with what is left and ends with the very images of an undisturbed run; nothing stays
behind. Five seeds; with RELFORGE_LONG=1 a hundred.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from relforge.evidence.runs import list_runs
from tests.e2e.conftest import CHECKOUT, command, site_settings
from tests.support.plaintext import files_holding
from tests.support.sealed_hello import RELEASE, seal, write_patch_set

pytestmark = pytest.mark.timeout(900)
SEEDS = range(100 if os.environ.get("RELFORGE_LONG") else 5)
PLAIN = f"{RELEASE}-plain"
SETTLED_S = 30.0
_DAEMONS = ("dockerd", "containerd")


@dataclass(frozen=True)
class Engine:
    """An engine of its own, which may be killed."""

    root: Path

    def up(self) -> None:
        self._engine("up", "--force-own")

    def purge(self) -> None:
        self._engine("purge")

    @property
    def env(self) -> dict[str, str]:
        done = self._engine("env", "--json")
        told = json.loads(done)
        return {
            "DOCKER_HOST": told["host"],
            "DOCKER_CONFIG": told["config_dir"],
            "PATH": f"{Path(told['docker']).parent}:{os.environ['PATH']}",
        }

    @property
    def settings(self) -> dict[str, str]:
        """The engine in a site configuration."""
        told = json.loads(self._engine("env", "--json"))
        return {name: told[name] for name in ("docker", "host", "config_dir")}

    def kill(self) -> None:
        for name in _DAEMONS:
            pid = int((self.root / "state" / name).read_text().split()[0])
            os.kill(pid, signal.SIGKILL)

    def docker(self, *words: str) -> list[str]:
        done = subprocess.run(
            ["docker", *words], env={**os.environ, **self.env},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.split()

    def _engine(self, *words: str) -> str:
        done = subprocess.run(
            [CHECKOUT / "scripts" / "engine", words[0], "--root", self.root, *words[1:]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Scene:
    """Two releases, one with a sealed patch set, and what an undisturbed run makes of them."""

    root: Path
    engine: Engine
    project: Path
    marker: str
    digests: dict[str, str]
    seconds: float

    def site(self, work: Path) -> Path:
        """A site with a home of its own below ``work``; the base image is the shared one."""
        home = work / "home"
        home.mkdir(parents=True)
        (home / "base").symlink_to(self.root / "base")
        return write_site(self, work)


def write_site(scene: Scene, work: Path) -> Path:
    keys = scene.root / "keys"
    changes = {
        "home": str(work / "home"),
        "dist": str(work / "dist"),
        "engine": scene.engine.settings,
        "git_mirrors": [{"prefix": "https://git.example/", "to": f"file://{scene.root / 'git'}/"}],
        "trusted_keys": [{"name": "vendor", "public_key": str(keys / "vendor.sign.pub.pem")}],
        "identities": [str(keys / "vendor.age.key")],
        "patch_sets": {},
        "publish": {"signing": {"key": str(keys / "vendor.sign.pem")}},
        "limits": {"cpu_cores": 4},
    }
    path = work / "site.yaml"
    path.write_text(json.dumps({**site_settings(), **changes}))
    return path


def must(*words: str | Path) -> None:
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("chaos")
    engine = Engine(root / "engine")
    engine.up()
    try:
        yield made(root, engine)
    finally:
        engine.purge()


def made(root: Path, engine: Engine) -> Scene:
    repository = root / "git" / "hello.git"
    repository.parent.mkdir()
    script = CHECKOUT / "examples" / "hello" / "make_repo.py"
    subprocess.run([sys.executable, script, repository], check=True, capture_output=True)
    project, marker = root / "project", f"marker-{secrets.token_hex(16)}"
    shutil.copytree(CHECKOUT / "examples" / "hello", project)
    releases = project / "manifests" / "releases"
    whole = yaml.safe_load((releases / f"{RELEASE}.yaml").read_text())
    # What takes long and changes no image is left out: more of the kills meet the rest.
    whole["skip"] = {"evaluate": "it is killed too seldom", "sbom": "it is killed too seldom"}
    (releases / f"{RELEASE}.yaml").write_text(yaml.safe_dump(whole))
    plain = {**whole, "name": PLAIN, "variant": "plain"}
    (releases / f"{PLAIN}.yaml").write_text(yaml.safe_dump(plain))
    # The base image is made once; every run finds it in this folder and in the engine.
    shared = Path(site_settings()["home"]) / "base"
    if shared.is_dir():
        shutil.copytree(shared, root / "base", symlinks=True)
    else:
        (root / "base").mkdir()
    must("keys", "new", "--out", root / "keys", "--name", "vendor")
    scene = Scene(root, engine, project, marker, {}, 0.0)
    write_patch_set(root, repository, project, marker)
    first = scene.site(root / "first")
    seal(project, first, root / "keys", must)
    must("lock", "--project", project, "--site", first, "--release", PLAIN)
    # The base image comes first, so that what is measured is how long a run takes.
    must("build", "--project", project, "--site", first, "--release", PLAIN)
    began = time.monotonic()
    must("release", "--all", "--jobs", "2", "--project", project, "--site", first)
    seconds = time.monotonic() - began
    digests = digests_in(root / "first" / "dist")
    assert set(digests) == {RELEASE, PLAIN}
    return Scene(root, engine, project, marker, digests, seconds)


def digests_in(dist: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads(path.read_text())["image_digest"]
        for path in dist.glob("*/release.json")
    }


@pytest.mark.parametrize("seed", SEEDS)
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
    done = subprocess.run(words(work, at), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (told, done.stderr)
    assert digests_in(work / "dist") == scene.digests, told
    states = [run.state for run in list_runs(work / "home")]
    assert set(states) <= {"done"}, (told, states)
    assert nothing_left(scene, work, since), told
    for name in scene.digests:
        must("verify", work / "dist" / name, "--site", site)
    shutil.rmtree(work)


def words(work: Path, at: list[str]) -> list[str]:
    """The command that begins the run, or goes on with it."""
    runs = list(list_runs(work / "home"))
    if runs and runs[0].state != "done":
        return command("release", "--resume", runs[0].id, *at)
    return command("release", "--all", "--jobs", "2", *at)


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


def nothing_left(scene: Scene, work: Path, since: Path) -> bool:
    """Containers, networks, volumes, work areas, half-made results and decrypted bytes."""
    engine = scene.engine
    deadline = time.monotonic() + SETTLED_S
    while True:
        left = {
            "containers": engine.docker("ps", "--all", "--quiet"),
            "networks": engine.docker("network", "ls", "--quiet", "--filter", "type=custom"),
            "volumes": engine.docker("volume", "ls", "--quiet"),
            "work": [p.name for p in (work / "home" / "work").glob("*") if p.is_dir()],
            "half made": [str(path) for path in (work / "home" / "store").glob("outputs/*/*/.*")],
            "prune": [str(path) for path in (work / "home" / "prune").glob("*")],
            "plaintext": [
                str(path)
                for path in files_holding(
                    scene.marker.encode(),
                    work,
                    engine.root / "data",
                    engine.root / "containerd",
                    changed_after=since.stat().st_ctime,
                )
            ],
        }
        if not any(left.values()):
            return True
        assert time.monotonic() < deadline, left
        time.sleep(1)
