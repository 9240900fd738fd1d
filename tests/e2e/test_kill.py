"""``kill -9`` in the middle of a sealed build: it goes on, and nothing decrypted stays behind."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.engine.cli import engine_facts
from tests.e2e.conftest import Hello, Result, command, containers, relforge
from tests.support.plaintext import files_holding
from tests.support.sealed_hello import AT_WORK, seal, write_patch_set

pytestmark = pytest.mark.timeout(600)
# Engine and BuildKit let go of what was removed a moment later.
SETTLED_S = 30.0


@dataclass(frozen=True)
class Sealed:
    """The hello release with a sealed patch set whose only effect is a comment: the marker."""

    project: Path
    site: Path
    home: Path
    tmp: Path
    dist: Path
    marker: str
    since: Path

    def words(self, verb: str) -> list[str]:
        return [verb, "--project", str(self.project), "--release", "hello-cpu_x86",
                "--site", str(self.site), "--json"]  # fmt: skip

    def run(self, verb: str) -> Result:
        return relforge(*self.words(verb), env={"TMPDIR": str(self.tmp)})

    def kill_in_the_compile_step(self) -> None:
        """Starts the build and kills relforge, and only relforge, while the engine compiles."""
        runs = set(self.home.glob("runs/*"))
        with subprocess.Popen(
            command(*self.words("build")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(self.tmp)},
        ) as running:
            deadline = time.monotonic() + 240
            while not self._says_at_work(runs):
                assert running.poll() is None, "the build ended before it could be killed"
                assert time.monotonic() < deadline, "the compile step was not reached"
                time.sleep(0.1)
            running.kill()

    def _says_at_work(self, before: set[Path]) -> bool:
        return any(
            json.loads(line).get("text", "").endswith(AT_WORK)
            for run in set(self.home.glob("runs/*")) - before
            for line in _whole_lines(run / "events.jsonl")
        )

    def decrypted(self) -> dict[str, list[str]]:
        """Where the marker is found: as it is, in a git object, or in a layer or archive."""
        facts = engine_facts()
        engine = [Path(facts.data_root), Path(facts.data_root).parent / "containerd"]
        return {
            "home": self._search(self.home),
            "dist": self._search(self.dist),
            "tmp": self._search(self.tmp),
            "engine": self._search(*engine),
        }

    def _search(self, *roots: Path) -> list[str]:
        # By the inode's time, which nothing can set back: relforge gives sources an old mtime.
        since = self.since.stat().st_ctime
        found = files_holding(self.marker.encode(), *roots, changed_after=since)
        return [str(path) for path in found]

    def assert_nothing_decrypted(self) -> None:
        deadline = time.monotonic() + SETTLED_S
        while any((left := self.decrypted()).values()) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not any(left.values()), left

    def assert_decrypted_bytes_are_there(self) -> None:
        """Else the test would prove nothing."""
        found = self.decrypted()
        assert any("/work/" in path for path in found["home"]), found
        assert found["engine"], "BuildKit's cache has no trace of the sources"
        assert list((self.home / "prune").iterdir()), "nothing says that the cache is to be pruned"


@pytest.fixture
def sealed(hello: Hello, tmp_path: Path) -> Iterator[Sealed]:
    marker = f"marker-{secrets.token_hex(16)}"
    project, tmp, dist = tmp_path / "sealed", tmp_path / "tmp", tmp_path / "sealed-dist"
    tmp.mkdir()
    since = tmp_path / "since"
    since.touch()
    shutil.copytree(hello.project, project)
    write_patch_set(tmp_path, tmp_path / "git" / "hello.git", project, marker)
    keys = tmp_path / "keys"
    _must(relforge("keys", "new", "--out", keys, "--name", "vendor"))
    site = hello.other_site(
        tmp_path / "sealed.yaml",
        dist=str(dist),
        trusted_keys=[{"name": "vendor", "public_key": str(keys / "vendor.sign.pub.pem")}],
        identities=[str(keys / "vendor.age.key")],
        patch_sets={},
    )
    seal(project, site, keys, lambda *words: _must(relforge(*words)))
    yield Sealed(project, site, hello.home, tmp, dist, marker, since)
    # Every marker gives another image; nobody wants them.
    for path in hello.home.glob("store/results/build/*.json"):
        result = json.loads(path.read_bytes())
        if result["inputs"]["sealed_sources"]:
            image = result["result"]["image_name"]
            subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)


def test_killed_in_a_sealed_build_and_run_again(sealed: Sealed) -> None:
    sealed.kill_in_the_compile_step()
    sealed.assert_decrypted_bytes_are_there()

    again = sealed.run("build")
    assert again.code == 0, again.stderr
    statuses = {s["name"]: s["status"] for s in again.json["stages"]}
    assert statuses["build"] == "ran"
    assert statuses["sources"] == "reused", "what was finished is not done again"
    assert containers() == []
    sealed.assert_nothing_decrypted()
    assert [p for p in (sealed.home / "work").iterdir() if p.is_dir()] == []
    assert list((sealed.home / "prune").iterdir()) == []
    assert not list(sealed.home.glob("store/outputs/build/*/.*"))


def test_killed_in_a_sealed_build_and_another_release_run(hello: Hello, sealed: Sealed) -> None:
    assert hello.run("build").code == 0
    sealed.kill_in_the_compile_step()
    sealed.assert_decrypted_bytes_are_there()

    # A smoke stage that has not run yet, of an image that is there: nothing is built.
    _edit(hello.project, serve={"ready_timeout_s": 29 + secrets.randbelow(10**6) / 10**6})
    other = hello.run("smoke", "--json")
    assert other.code == 0, other.stderr
    statuses = {s["name"]: s["status"] for s in other.json["stages"]}
    assert (statuses["build"], statuses["smoke"]) == ("reused", "ran")
    assert containers() == []
    sealed.assert_nothing_decrypted()
    assert list((sealed.home / "prune").iterdir()) == []
    listed = _runs(sealed)
    killed = [run for run in listed if run["state"] == "killed"]
    assert killed[0]["error"] == "killed during build"
    assert not [run for run in listed if run["state"] == "running"]


def _runs(sealed: Sealed) -> list[dict[str, Any]]:
    listed = relforge("runs", "--json", "--project", sealed.project, "--site", sealed.site)
    _must(listed)
    found: list[dict[str, Any]] = listed.json["runs"]
    return found


def _must(done: Result) -> None:
    assert done.code == 0, done.stderr


def _whole_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines(keepends=True)[:-1]
    except FileNotFoundError:
        return []


def _edit(project: Path, **sections: dict[str, Any]) -> None:
    path = project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    manifest = yaml.safe_load(path.read_text())
    for name, changes in sections.items():
        manifest[name] |= changes
    path.write_text(yaml.safe_dump(manifest))
