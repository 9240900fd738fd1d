"""A launch that is really started: every node on its host, watched as one, gone when left."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.cancel import CancelToken
from relforge.engine.client import engine_host
from relforge.engine.containers import LABEL_RELEASE, PublishedPort
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.site import EngineSite
from relforge.serving.model import LaunchSpec, Node
from relforge.serving.start import RUN_PREFIX, serving, stop
from relforge.serving.wait import NotReady
from tests.engine.test_containers import FAKE, PORT, engine, image, launch, node

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "image"]


@pytest.fixture
def name(engine: DockerClient) -> Iterator[str]:
    """A release that no other test has; nothing of it is left at the end."""
    made = f"test-{uuid.uuid4().hex[:12]}"
    yield made
    assert left(engine, made) == 0, "a container survived"


def left(client: DockerClient, release: str) -> int:
    return len(client.api.containers(all=True, filters={"label": f"{LABEL_RELEASE}={release}"}))


def server(image: str, name: str, *options: str, **changes: Any) -> Node:
    argv = ("/usr/bin/python3", "-u", "/app/server.py", "--port", str(PORT), *options)
    return node(image, f"{name}-0", *argv, host="first", **changes)


def waiting(image: str, name: str, seconds: str = "60") -> Node:
    return node(image, f"{name}-1", "/usr/bin/sleep", seconds, host="second", ports=())


def spec_of(name: str, *nodes: Node, **changes: Any) -> LaunchSpec:
    return launch(*nodes).model_copy(update={"release": name, **changes})


def options(name: str, tmp_path: Path) -> dict[str, Any]:
    return {"run_id": RUN_PREFIX + name, "logs": tmp_path / "logs", "cancel": CancelToken()}


def test_two_nodes_serve_and_are_gone_afterwards(
    engine: DockerClient,
    image: str,
    name: str,
    tmp_path: Path,
) -> None:
    lines: list[tuple[str, str]] = []
    # The second host is named by its address, as in a nodes file.
    second = waiting(image, name).model_copy(update={"context": engine_host()})
    spec = spec_of(name, server(image, name), second)
    with serving(
        spec, EngineSite(), **options(name, tmp_path), on_line=lambda *line: lines.append(line)
    ) as found:
        assert left(engine, name) == 2
        assert found.base_url.startswith("http://127.0.0.1:")
        assert found.start_to_ready_s > 0
    assert left(engine, name) == 0
    assert ("first", f"listening on {PORT}") in lines
    assert (tmp_path / "logs" / "second.log").exists()


def test_readiness_on_a_port_of_its_own(
    image: str,
    name: str,
    tmp_path: Path,
) -> None:
    argv = ("/bin/sh", "-c", f"sleep 60 & exec python3 -u /app/server.py --port {PORT}")
    apart = node(image, f"{name}-0", *argv, host="first").model_copy(
        update={"port": 9, "ports": (PublishedPort(container=9), PublishedPort(container=PORT))}
    )
    spec = spec_of(name, apart, health_port=PORT)
    with serving(spec, EngineSite(), **options(name, tmp_path)) as found:
        assert found.start_to_ready_s > 0


def test_a_node_that_dies_ends_the_launch(
    image: str,
    name: str,
    tmp_path: Path,
) -> None:
    never = server(image, name, "--fault", "never-ready")
    started = time.monotonic()
    with (
        pytest.raises(NotReady, match="ended with exit status 0 before it was ready") as caught,
        serving(
            spec_of(name, never, waiting(image, name, "1")),
            EngineSite(),
            **options(name, tmp_path),
        ),
    ):
        pytest.fail("the block ran without its second node")
    assert time.monotonic() - started < 20
    assert caught.value.log == str(tmp_path / "logs" / "second.log")


def test_stop_ends_it_from_elsewhere(
    engine: DockerClient,
    image: str,
    name: str,
    tmp_path: Path,
) -> None:
    spec = spec_of(name, server(image, name), waiting(image, name))
    with serving(spec, EngineSite(), **options(name, tmp_path)) as found:
        assert stop("another", [None], EngineSite()) == ()
        stopped: list[str] = []
        thread = threading.Thread(
            target=lambda: stopped.extend(stop(name, [None, engine_host()], EngineSite()))
        )
        thread.start()
        ended = found.nodes.wait(CancelToken())
        thread.join(20)
        assert sorted(stopped) == sorted(n.name for n in spec.nodes)
        assert ended.node in ("first", "second")
        assert ended.state.status == "gone"
        assert left(engine, name) == 0


def test_a_cancelled_launch_leaves_nothing(
    engine: DockerClient,
    image: str,
    name: str,
    tmp_path: Path,
) -> None:
    given = options(name, tmp_path)
    spec = spec_of(name, server(image, name, "--fault", "never-ready"))
    threading.Timer(1, given["cancel"].cancel, ["test"]).start()
    with pytest.raises(Cancelled), serving(spec, EngineSite(), **given):
        pytest.fail("the block ran although the launch was cancelled")
    assert left(engine, name) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": "ssh://far"}, "cannot be asked from here"),
        ({"context": "ssh://far", "network": "host"}, "cannot be asked from here"),
        ({"context": "tcp://far:2375"}, "cannot be asked from here"),
        ({"context": "tcp://far:2375", "network": "host"}, "cannot be asked from here"),
    ],
)
def test_hosts_that_cannot_be_used_are_refused_before_anything_starts(
    image: str,
    name: str,
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
) -> None:
    spec = spec_of(name, server(image, name).model_copy(update=changes))
    with (
        pytest.raises(RelforgeError, match=said) as caught,
        serving(spec, EngineSite(), **options(name, tmp_path)),
    ):
        pytest.fail("the block ran")
    assert caught.value.code == ExitCode.USAGE


RELEASE = """\
kind: release
name: {name}
model: fake
device: cpu_x86
variant: {variant}
engine: command
title: A stand-in server
build: {{}}
serve:
  served_name: tiny
  port: {port}
  command: [/usr/bin/python3, -u, /app/server.py, --port, "{{port}}"]
  mounts:
    - {{name: usr, host: /usr, container: /usr}}
    - {{name: server, container: /app/server.py}}
"""
MODEL = """\
kind: model
name: fake
title: A stand-in
summary: A stand-in.
license: Apache-2.0
license_source: this test
architecture: none
parameters: 1
precision: float32
weights: {kind: local, path: weights, files: {}}
"""


@pytest.fixture
def words(tmp_path: Path, image: str, name: str) -> list[str]:
    """A project with a release of its own, and the command that serves it."""
    variant = name.removeprefix("test-")
    release = f"fake-cpu_x86-{variant}"
    for folder in ("manifests/models", "manifests/releases", "weights"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "manifests/models/fake.yaml").write_text(MODEL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / f"manifests/releases/{release}.yaml").write_text(
        RELEASE.format(name=release, variant=variant, port=port)
    )
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\n")
    code = "from relforge.cli import main; main()"
    return [
        *(sys.executable, "-c", code, "serve", "--release", release),
        *("--project", str(tmp_path), "--site", str(tmp_path / "site.yaml")),
        *("--image", image, "--mount", f"server={FAKE}"),
    ]


@pytest.mark.parametrize("way", ["stop", "interrupt", "death"])
def test_the_command_serves_until_it_is_ended(
    engine: DockerClient,
    words: list[str],
    way: str,
) -> None:
    release = words[words.index("--release") + 1]
    serve = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert serve.stdout is not None
        url = serve.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), serve.communicate()[1]
        with urllib.request.urlopen(f"{url}/models", timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "tiny"
        assert left(engine, release) == 1
        if way == "stop":
            done = subprocess.run([*words, "--stop"], capture_output=True, text=True, check=True)
            assert f"removed relforge-{release}" in done.stderr
        elif way == "interrupt":
            serve.send_signal(signal.SIGINT)
        else:
            engine.api.kill(f"relforge-{release}")
        _, err = serve.communicate(timeout=60)
    finally:
        if serve.poll() is None:
            serve.terminate()
            serve.wait(30)
    assert serve.returncode == {"stop": 0, "interrupt": 130, "death": 6}[way], err
    assert {"stop": "was stopped", "interrupt": "interrupted", "death": "signal 9"}[way] in err
    assert left(engine, release) == 0
    again = subprocess.run([*words, "--stop"], capture_output=True, text=True, check=True)
    assert f"nothing of {release} is served here" in again.stderr
