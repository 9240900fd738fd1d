"""Two small releases, one of them sealed, on an engine that may be killed; what may stay behind."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from relforge.evidence.reading_runs import list_runs
from tests.e2e.conftest import CHECKOUT, command, site_settings
from tests.support.plaintext import files_holding
from tests.support.sealed_hello import RELEASE, seal, write_patch_set

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

    def home(self, folder: Path) -> Path:
        """A home of its own in ``folder``; the base image is the shared one."""
        home = folder / "home"
        home.mkdir(parents=True)
        (home / "base").symlink_to(self.root / "base")
        return home

    def site(self, work: Path, **more: Any) -> Path:
        """A site with a home of its own below ``work``."""
        keys = self.root / "keys"
        mirror = {"prefix": "https://git.example/", "to": f"file://{self.root / 'git'}/"}
        changes = {
            **self.settings(self.home(work)),
            "dist": str(work / "dist"),
            "git_mirrors": [mirror],
            "publish": {"signing": {"key": str(keys / "vendor.sign.pem")}},
            **more,
        }
        path = work / "site.yaml"
        path.write_text(json.dumps({**site_settings(), **changes}))
        return path

    def settings(self, home: Path) -> dict[str, Any]:
        """What every site says: this one's, and those of hosts that work for it."""
        keys = self.root / "keys"
        return {
            "home": str(home),
            "engine": self.engine.settings,
            "trusted_keys": [{"name": "vendor", "public_key": str(keys / "vendor.sign.pub.pem")}],
            "identities": [str(keys / "vendor.age.key")],
            "patch_sets": {},
        }


def must(*words: str | Path) -> None:
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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


def words(work: Path, at: list[str]) -> list[str]:
    """The command that begins the run, or goes on with it."""
    runs = list(list_runs(work / "home"))
    if runs and runs[0].state != "done":
        return command("release", "--resume", runs[0].id, *at)
    return command("release", "--all", "--jobs", "2", *at)


def half_made(home: Path) -> Iterator[Path]:
    """Files and folders that are named after who makes them."""
    owned = re.compile(r"^\..+-\d+-\d+-[0-9a-f]{8}-[a-z0-9_]+$")
    return (path for path in home.rglob(".*") if owned.match(path.name))


def nothing_left(scene: Scene, work: Path, since: Path, homes: Sequence[Path] = ()) -> bool:
    """Containers, networks, volumes, work areas, half-made results and decrypted bytes.

    ``homes`` are those of other hosts, beside the one in ``work``.
    """
    engine = scene.engine
    deadline = time.monotonic() + SETTLED_S
    every = (work / "home", *homes)
    while True:
        left = {
            "containers": engine.docker("ps", "--all", "--quiet"),
            "networks": engine.docker("network", "ls", "--quiet", "--filter", "type=custom"),
            "volumes": engine.docker("volume", "ls", "--quiet"),
            "work": [str(p) for home in every for p in home.glob("work/*") if p.is_dir()],
            "half made": [str(path) for home in every for path in half_made(home)],
            "prune": [str(p) for home in every for p in home.glob("prune/*")],
            "plaintext": [
                str(path)
                for path in files_holding(
                    scene.marker.encode(),
                    work,
                    *homes,
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
