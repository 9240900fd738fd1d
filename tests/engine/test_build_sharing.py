"""Builds that share steps through a registry, and builds by a builder that is not the engine's own.

The remote builder is real BuildKit behind buildx's own driver ``remote``: the engine's, through a
socket of ours that speaks for it.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from relforge.engine.base_image import BaseResult
from relforge.engine.base_layout import base_layout
from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build
from relforge.engine.cli import DockerCli, find_cli
from relforge.engine.client import engine_host
from relforge.engine.images import find_image
from relforge.engine.layout import describe
from relforge.engine.prune import prune_source_cache
from relforge.manifest.site import CacheSite, EngineSite
from tests.engine.conftest import docker
from tests.support.registries import RealRegistry, docker_registry

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}} AS made
RUN echo {mark} > /{mark} && touch -d @0 /{mark}
FROM ${{BASE_IMAGE}} AS image
COPY --from=made /{mark} /{mark}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def request_of(
    tmp_path: Path, base: str, image_name: Callable[[str], str]
) -> Callable[..., BuildRequest]:
    """A build that nobody did before, the same in one test, each time in a folder of its own."""
    mark = secrets.token_hex(8)
    numbers = iter(range(99))

    def make(**changes: object) -> BuildRequest:
        folder = tmp_path / f"build{next(numbers)}"
        folder.mkdir()
        (folder / "Dockerfile").write_text(DOCKERFILE.format(mark=mark))
        return BuildRequest.model_validate(
            {
                "dockerfile": folder / "Dockerfile",
                "context": folder / "context",
                "args": {"BASE_IMAGE": base},
                "target": "image",
                "source_date_epoch": 0,
                "image_name": image_name("sharing"),
                "layout": folder / "layout",
                "log": folder / "build.log",
                **changes,
            }
        )

    return make


def forget(mark: str) -> None:
    """Takes the steps that have *mark* in them out of the engine's cache."""
    assert prune_source_cache((), steps=(mark,)).in_use == ()


def mark_of(request: BuildRequest) -> str:
    return request.dockerfile.read_text().split("echo ", 1)[1].split()[0]


def test_steps_done_elsewhere_come_from_the_shared_cache(
    request_of: Callable[..., BuildRequest], registry: RealRegistry
) -> None:
    place = f"{registry.host}/cache/steps:v1"
    first = build(request_of(cache=CacheSite(to=place)))
    assert first.steps_run >= 1
    assert registry.tags("cache/steps") == ["v1"]
    request = request_of(cache=CacheSite.model_validate({"from": [place]}))
    forget(mark_of(request))
    assert build(request_of()).steps_run >= 1, "without the shared cache it is done again"
    forget(mark_of(request))
    again = build(request)
    assert again.image_digest == first.image_digest
    assert (again.steps_run, again.steps_cached > 0) == (0, True), again.log.read_text()


def test_a_cache_that_is_not_there_fails_no_build(
    request_of: Callable[..., BuildRequest],
) -> None:
    place = "127.0.0.1:9/cache/steps:v1"
    cache = CacheSite.model_validate({"to": place, "from": [place]})
    assert build(request_of(cache=cache)).steps_run >= 1


@pytest.mark.parametrize(
    "leaves",
    [
        {"builder": "far"},
        {"cache": CacheSite(to="registry.example/cache:v1")},
        {"cache": CacheSite.model_validate({"from": ["registry.example/cache:v1"]})},
    ],
)
def test_sealed_sources_never_leave(
    request_of: Callable[..., BuildRequest], leaves: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="sealed sources has no remote builder"):
        request_of(sealed=True, **leaves)


@pytest.fixture
def far(tmp_path: Path, cli: DockerCli) -> Iterator[str]:
    """The name of a builder of buildx's driver ``remote``."""
    name = f"relforge-test-{secrets.token_hex(4)}"
    with speaks_buildkit(tmp_path / "bk.sock") as place:
        made = docker(cli, "buildx", "create", "--name", name, "--driver", "remote", place)
        assert made.returncode == 0, made.stderr
        try:
            yield name
        finally:
            docker(cli, "buildx", "rm", name)


def test_a_remote_builder_gives_the_same_image(
    request_of: Callable[..., BuildRequest], far: str, base: str, cli: DockerCli, tmp_path: Path
) -> None:
    near = build(request_of())
    image = find_image(base, cli=cli)
    assert image is not None
    known = BaseResult(how="registry", reference=base, digest=image.id, key="k")
    handed = base_layout(known, home=tmp_path / "home", site=EngineSite())
    assert handed.digest == image.id
    assert describe(handed.folder).digest == image.id
    images = {base: f"oci-layout://{handed.folder}@{handed.digest}"}
    forget(mark_of(request_of()))
    request = request_of(builder=far, images=images)
    done = build(request)
    assert f"--builder {far}" in request.log.read_text()
    assert done.steps_run >= 1
    assert done.image_digest == near.image_digest
    # The engine has it, too: it is what serves.
    kept = find_image(request.image_name, cli=find_cli())
    assert kept is not None
    assert kept.id == near.image_digest


@contextmanager
def speaks_buildkit(path: Path) -> Iterator[str]:
    """A socket that speaks BuildKit's own protocol, which the engine has under POST /grpc."""
    engine = engine_host(EngineSite())
    assert engine.startswith("unix://")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen()

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=_joined, args=(client, engine[7:]), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _joined(client: socket.socket, engine: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as far:
        far.connect(engine)
        far.sendall(
            b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += far.recv(1)
        assert b" 101 " in head.split(b"\r\n", 1)[0] + b" ", head
        back = threading.Thread(target=_copied, args=(far, client), daemon=True)
        back.start()
        _copied(client, far)
        back.join()


def _copied(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            to.sendall(data)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)
