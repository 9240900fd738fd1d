"""What engine tests share: the engine itself, a tiny base image, a registry.

The engine is found as relforge finds it (DOCKER_HOST, DOCKER_CONFIG, PATH); one that does not
answer fails these tests, it does not skip them. Whatever a test makes in it has a name that
starts with ``relforge-test-`` and is removed at the end of the session.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build
from relforge.engine.cli import DockerCli, EngineFacts, engine_facts, find_cli
from tests.support.registries import free_port as free_port
from tests.support.registries import running as running

_APPLETS = ("sh", "cat", "cp", "date", "echo", "env", "head", "ls", "mkdir", "rm", "sleep", "touch")


def docker(cli: DockerCli, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cli.argv(*words), env={**os.environ, **cli.environment}, capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def facts() -> EngineFacts:
    return engine_facts()


@pytest.fixture(scope="session")
def cli(facts: EngineFacts) -> DockerCli:
    return find_cli()


@pytest.fixture(scope="session")
def image_name(cli: DockerCli) -> Iterator[Callable[[str], str]]:
    """Gives names for images, and removes those images at the end."""
    given: list[str] = []

    def name(what: str) -> str:
        given.append(f"relforge-test-{what}:{secrets.token_hex(6)}")
        return given[-1]

    yield name
    for image in given:
        docker(cli, "image", "rm", image)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with busybox in it: enough of a system for RUN."""
    busybox = shutil.which("busybox")
    linked = subprocess.run(["ldd", str(busybox)], capture_output=True).returncode == 0
    if busybox is None or linked:
        pytest.fail("a static busybox is needed: apt-get install busybox-static")
    root = tmp_path_factory.mktemp("rootfs")
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "var/lib/dpkg"):
        (root / folder).mkdir(parents=True)
    shutil.copy2(busybox, root / "bin" / "busybox")
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    return root


@pytest.fixture(scope="session")
def base(
    rootfs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    image_name: Callable[[str], str],
) -> str:
    """The name of a tiny base image, made by BuildKit as relforge makes its own."""
    work = tmp_path_factory.mktemp("base")
    (work / "context").mkdir()
    archive = work / "context" / "rootfs.tar"
    tar = ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", str(rootfs)]
    subprocess.run([*tar, "-cf", str(archive), "."], check=True)
    (work / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
    result = build(
        BuildRequest(
            dockerfile=work / "Dockerfile",
            context=work / "context",
            source_date_epoch=0,
            image_name=image_name("base"),
            layout=work / "layout",
            log=work / "build.log",
        )
    )
    return result.image_name


@pytest.fixture
def request_for(
    tmp_path: Path, base: str, image_name: Callable[[str], str]
) -> Callable[..., BuildRequest]:
    """A build request of a Dockerfile on the tiny base; ``BASE`` in its text is the base."""

    def make(dockerfile: str, **changes: object) -> BuildRequest:
        path = tmp_path / "Dockerfile"
        path.write_text(dockerfile.replace("BASE", base))
        values: dict[str, object] = {
            "dockerfile": path,
            "context": tmp_path / "empty",
            "source_date_epoch": 1_700_000_000,
            "image_name": image_name("build"),
            "layout": tmp_path / "out" / "layout",
            "log": tmp_path / "out" / "build.log",
        }
        return BuildRequest.model_validate({**values, **changes})

    return make


@dataclass(frozen=True)
class Registry:
    host: str
    data: Path


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Debian's docker-registry on a free port of loopback."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is needed: apt-get install docker-registry")
    work = tmp_path_factory.mktemp("registry")
    port = free_port()
    config = work / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {work / 'data'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    with running([program, "serve", str(config)], port, work / "log"):
        yield Registry(f"127.0.0.1:{port}", work / "data")
