"""Publishing to four places at once, killed anywhere: nobody sees half a release, none twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml

from relforge.publishing.published import Published, read_published
from relforge.publishing.tags import release_tags
from tests.fakes.hub_git import Blob, Repository
from tests.fakes.huggingface_writing import WritableHub
from tests.support.git_http import GitHttp, bare_repository
from tests.support.git_targets import git
from tests.support.registries import RealRegistry, docker_registry
from tests.support.verified import Releaser

pytestmark = pytest.mark.timeout(1800)
CHECKOUT = Path(__file__).parents[2]
TOKEN = "hf_" + "Secret0Token" * 3
KILLS = 30 if os.environ.get("RELFORGE_LONG") else 5
SEED = 20261130


@dataclass
class Scene:
    """One release and the places it goes to; each ``round`` of the test has places of its own."""

    root: Path
    published: Published
    releaser: Releaser
    registry: RealRegistry
    pages: GitHttp
    hub: WritableHub

    def site(self, number: int) -> Path:
        bare_repository(self.pages.root / f"pages-{number}.git")
        token = self.root / "hf.token"
        token.write_text(TOKEN)
        here = self.registry.host
        file = self.root / f"site-{number}.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "kind": "site",
                    "home": str(self.root / f"home-{number}"),
                    "hubs": {"huggingface": {"endpoint": self.hub.url, "token_file": str(token)}},
                    "publish": {
                        "signing": {"key": str(self.releaser.root / "maker.pem")},
                        "targets": {
                            "images": {
                                "kind": "registry",
                                "release": f"{here}/release-{number}/{{model}}",
                                "candidate": f"{here}/waiting-{number}/{{model}}",
                            },
                            "disk": {"kind": "tar", "path": str(self.root / f"tars-{number}")},
                            "hub": {
                                "kind": "huggingface",
                                "repository": f"team/{{model}}-{number}",
                            },
                            "pages": {"kind": "git", "url": self.pages.url(f"pages-{number}.git")},
                        },
                    },
                }
            )
        )
        return file

    def promote(self, site: Path) -> subprocess.Popen[str]:
        words = ["promote", "--folder", str(self.published.folder), "--target", "all", "--json"]
        return subprocess.Popen(
            [sys.executable, "-c", "from relforge.cli import main; main()", *words,
             "--site", str(site)],
            cwd=self.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )  # fmt: skip

    def require_nothing_half(self, number: int) -> None:
        """Whatever people can see by now is whole."""
        digest = self.published.image_digest
        name = f"release-{number}/tiny-adder"
        for tag in self.registry.tags(name):
            if tag not in release_tags(self.published.record):
                continue
            assert self._manifest(name, tag) == digest
            for blob in self._blobs(name, digest):
                assert self.registry.has(blob), f"{tag} leads to {blob}, which is not there"
            # Who sees the tag can verify it.
            for suffix in ("sig", "att"):
                assert self._manifest(name, f"{digest.replace(':', '-')}.{suffix}") is not None
        tar = self.root / f"tars-{number}" / f"{self.published.release}.tar"
        if tar.exists():
            self._require_verified(tar)
        hub = self.hub.repositories.get(f"team/tiny-adder-{number}")
        if hub is not None and "release.json" in (files := _seen(hub)):
            assert "README.md" in files
            assert json.loads(files["release.json"].data)["image_digest"] == digest
        pages = self.pages.root / f"pages-{number}.git"
        seen = git(pages, "ls-tree", "-r", "--name-only", "main", check=False).splitlines()
        if any(line.endswith("release.json") for line in seen):
            assert {line.rpartition("/")[2] for line in seen} >= {"README.md", "contents.json"}

    def require_once(self, number: int) -> None:
        """All is there, and nothing was done twice."""
        digest = self.published.image_digest
        name = f"release-{number}/tiny-adder"
        for tag in release_tags(self.published.record):
            assert self._manifest(name, tag) == digest
        self._require_verified(self.root / f"tars-{number}" / f"{self.published.release}.tar")
        hub = self.hub.repositories[f"team/tiny-adder-{number}"]
        assert len([pull for pull in hub.pulls.values() if pull.status == "merged"]) == 1
        assert [pull for pull in hub.pulls.values() if pull.status == "open"] == []
        assert len([ref for ref in hub.refs if ref.startswith("tags/")]) == 1
        pages = self.pages.root / f"pages-{number}.git"
        assert len(git(pages, "tag").split()) == 1
        assert len(git(pages, "log", "--format=%H", "main").split()) == 1

    def _require_verified(self, place: Path) -> None:
        from relforge.verifying import verify_place

        report = verify_place(place, self.releaser.trusted)
        assert report.verdict == "pass", [f"{one.check}: {one.reason}" for one in report.failed]

    def _manifest(self, name: str, reference: str) -> str | None:
        answer = requests.get(
            f"http://{self.registry.host}/v2/{name}/manifests/{reference}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
            timeout=10,
        )
        return answer.headers["Docker-Content-Digest"] if answer.ok else None

    def _blobs(self, name: str, digest: str) -> list[str]:
        answer = requests.get(
            f"http://{self.registry.host}/v2/{name}/manifests/{digest}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
            timeout=10,
        )
        value = answer.json()
        return [value["config"]["digest"], *(layer["digest"] for layer in value["layers"])]


def _seen(hub: Repository) -> Mapping[str, Blob]:
    """What a visitor of the hub's main branch finds."""
    commit = hub.at("main")
    return commit.tree if commit is not None else {}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("killed")
    releaser = Releaser.at(root / "maker")
    published = read_published(releaser.release(root / "dist"))
    (root / "git").mkdir()
    with (
        docker_registry(root / "registry") as registry,
        GitHttp(root / "git") as pages,
        (hub := WritableHub({TOKEN: "team-bot"})),
    ):
        yield Scene(root, published, releaser, registry, pages, hub)


def test_killed_anywhere_and_run_again(scene: Scene) -> None:
    """Each round kills at a random moment, looks, runs again, looks, and runs once more."""
    started = time.monotonic()
    first = scene.promote(scene.site(0))
    said, complaints = first.communicate(timeout=600)
    assert first.returncode == 0, complaints
    took = time.monotonic() - started
    scene.require_nothing_half(0)
    scene.require_once(0)
    assert {one["state"] for one in json.loads(said)["releases"][0]["outcomes"]} == {"done"}

    chance = random.Random(SEED)
    interrupted = 0
    for number in range(1, KILLS + 1):
        site = scene.site(number)
        running = scene.promote(site)
        time.sleep(took * chance.uniform(0.25, 1.0))
        interrupted += running.poll() is None
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        scene.require_nothing_half(number)
        again = scene.promote(site)
        _, complaints = again.communicate(timeout=600)
        assert again.returncode == 0, f"round {number}: {complaints}"
        scene.require_nothing_half(number)
        scene.require_once(number)
        third = scene.promote(site)
        said, complaints = third.communicate(timeout=600)
        assert third.returncode == 0, complaints
        outcomes = json.loads(said)["releases"][0]["outcomes"]
        assert {one["state"] for one in outcomes} == {"nothing"}, f"round {number}"
        assert sum(one["delivery"]["sent_bytes"] for one in outcomes) == 0
        shutil.rmtree(scene.root / f"tars-{number}")
    assert interrupted >= KILLS // 2, "most kills have to hit a run that is at work"
