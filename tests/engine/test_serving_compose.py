"""Printed Compose files, read and run by Compose itself."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relforge.serving.compose import compose_file
from relforge.serving.model import LaunchSpec
from tests.engine.test_containers import PORT, engine, fake, image
from tests.unit.test_serving_render import launch, unescaped

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "image"]


@pytest.fixture(autouse=True)
def _compose() -> None:
    found = subprocess.run(["docker", "compose", "version"], capture_output=True)
    if found.returncode != 0:
        pytest.fail("docker compose is needed: scripts/engine brings it, Debian calls it so too")


def written(spec: LaunchSpec, folder: Path) -> list[str]:
    """The Compose command for the printed file."""
    path = folder / "compose.yaml"
    path.write_text(compose_file(spec, spec.nodes[0]))
    return ["docker", "compose", "--file", str(path)]


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    spec = launch()
    done = subprocess.run(
        [*written(spec, tmp_path), "config", "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "", "a variable that is not set would be told"
    found = json.loads(done.stdout)["services"]["server"]
    assert unescaped(found["environment"]) == spec.nodes[0].env
    assert unescaped(found["command"]) == list(spec.nodes[0].argv[1:])


def test_compose_starts_the_server(engine: DockerClient, image: str, tmp_path: Path) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    spec = fake(image, name, env={"PRICE": "$5 and ${HOME}"})
    command = written(spec, tmp_path)
    try:
        subprocess.run([*command, "up", "--detach"], check=True, capture_output=True)
        container = engine.containers.get(spec.nodes[0].name)
        assert "PRICE=$5 and ${HOME}" in container.attrs["Config"]["Env"]
        (bound,) = container.attrs["NetworkSettings"]["Ports"][f"{PORT}/tcp"]
        assert models(f"http://{bound['HostIp']}:{bound['HostPort']}") == ["tiny"]
    finally:
        subprocess.run([*command, "down", "--timeout", "0"], check=True, capture_output=True)
    assert engine.containers.list(all=True, filters={"name": name}) == []


def models(url: str) -> list[str]:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
                return [model["id"] for model in json.load(answer)["data"]]
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
