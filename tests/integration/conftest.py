"""Fixtures of several integration tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registries import RealRegistry, docker_registry
from tests.support.verify_scene import Made, Scene, make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    # A whole run has to try this; elsewhere it needs root, and a kernel that lets one mount.
    missing = pytest.fail if "RELFORGE_ALL_TESTS" in os.environ else pytest.skip
    if os.geteuid() != 0:
        missing("only root may mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", place], capture_output=True
    )
    if done.returncode != 0:
        missing(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def verify_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def scene(
    made: Made, verify_registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    # Not the one of a checkout where quickstart was run.
    (tmp_path / "no-keys.yaml").write_text("kind: site\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "no-keys.yaml"))
    scene = Scene(made, tmp_path, verify_registry)
    scene.start()
    return scene
