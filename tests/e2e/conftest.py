"""The real thing: these tests need the engine, and the release that ./scripts/quickstart made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

CHECKOUT = Path(__file__).resolve().parents[2]
QUICKSTART_SITE = CHECKOUT / ".relforge" / "site.yaml"
SAID = {"sbom": "pass", "scan": "pass", "attest": "not-run"}
"""Verdicts of every release about what is in its image; quickstart's site names no signing key."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def relforge(*words: str | Path, env: dict[str, str] | None = None, cwd: Path = CHECKOUT) -> Result:
    """Runs relforge as a user would."""
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=1500,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-c", "from relforge.cli import main; main()", *map(str, words)]


def site_settings() -> dict[str, Any]:
    """What quickstart wrote, with absolute paths, and without its signing key."""
    if not QUICKSTART_SITE.is_file():
        pytest.fail("run ./scripts/quickstart first (scripts/test does)")
    data: dict[str, Any] = json.loads(QUICKSTART_SITE.read_text())
    base = QUICKSTART_SITE.parent
    data.pop("publish", None)
    data["home"] = str(base / data["home"])
    data["identities"] = [str(base / p) for p in data["identities"]]
    data["patch_sets"] = {n: str(base / p) for n, p in data["patch_sets"].items()}
    for key in data["trusted_keys"]:
        key["public_key"] = str(base / key["public_key"])
    return data


def write_site(path: Path, **changes: Any) -> Path:
    """A site configuration like quickstart's, changed."""
    path.write_text(json.dumps({**site_settings(), **changes}))
    return path


@pytest.fixture(scope="session")
def quickstart_dist() -> Path:
    """The folder of the release that quickstart made."""
    folder = CHECKOUT / "dist" / "tiny-adder-cpu_x86"
    if not (folder / "release.json").is_file():
        pytest.fail("run ./scripts/quickstart first (scripts/test does)")
    return folder


@pytest.fixture(scope="session")
def record(quickstart_dist: Path) -> dict[str, Any]:
    """The release record of the real release."""
    loaded: dict[str, Any] = json.loads((quickstart_dist / "release.json").read_text())
    return loaded


def containers() -> list[str]:
    """Names of all containers that relforge owns."""
    done = subprocess.run(
        ["docker", "ps", "-a", "--filter", "label=org.relforge.owner", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until the URL answers 200, at most 300 s; the test fails when the server ends."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            if requests.get(url, timeout=2).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    pytest.fail("the server was not ready within 300 s")


@dataclass(frozen=True)
class Hello:
    """The hello project in a folder of its own, with a home that all hello tests share."""

    project: Path
    site: Path
    home: Path
    dist: Path

    def run(self, verb: str, *words: str | Path, site: Path | None = None) -> Result:
        return relforge(
            verb,
            "--project",
            self.project,
            "--release",
            "hello-cpu_x86",
            "--site",
            site or self.site,
            *words,
        )

    def run_alone(self, verb: str, *words: str | Path) -> Result:
        """A command that names no release, in the project."""
        return relforge(verb, *words, cwd=self.project)

    def other_site(self, path: Path, **changes: Any) -> Path:
        return write_site(path, **{**json.loads(self.site.read_text()), **changes})


@pytest.fixture(scope="session")
def hello_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hello-home")


@pytest.fixture
def hello(tmp_path: Path, hello_home: Path) -> Iterator[Hello]:
    """A fresh copy of examples/hello, its source served from a local git repository."""
    project = tmp_path / "project"
    shutil.copytree(CHECKOUT / "examples" / "hello", project)
    repository = tmp_path / "git" / "hello.git"
    repository.parent.mkdir()
    subprocess.run(
        [sys.executable, CHECKOUT / "examples" / "hello" / "make_repo.py", repository],
        check=True,
        capture_output=True,
    )
    # The base image is content-addressed and costs most of a cold start: shared with quickstart.
    shared = Path(site_settings()["home"])
    if (shared / "base").is_dir() and not (hello_home / "base").exists():
        (hello_home / "base").symlink_to(shared / "base")
    dist = tmp_path / "dist"
    site = write_site(
        tmp_path / "site.yaml",
        home=str(hello_home),
        dist=str(dist),
        git_mirrors=[{"prefix": "https://git.example/", "to": f"file://{repository.parent}/"}],
    )
    yield Hello(project, site, hello_home, dist)
    assert containers() == [], "a test left a container behind"


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on a free port of this host."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail("docker-registry did not start")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
