"""Pushing to a real registry, and to ones that refuse."""

from __future__ import annotations

import http.server
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from relforge.engine.buildx import BuildRequest, BuildResult, build
from relforge.engine.cli import DockerCli
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.reference import Repository
from relforge.publishing.registry import push, remote_digest
from tests.engine.conftest import Registry, docker, free_port

Make = Callable[..., BuildRequest]


@pytest.fixture
def built(request_for: Make) -> BuildResult:
    return build(request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word\n"))


def test_the_pushed_digest_is_the_layouts(
    built: BuildResult, registry: Registry, cli: DockerCli
) -> None:
    target = Repository.parse(f"{registry.host}/team/model")
    result = push(built.layout, target, tag="v1", image_name=built.image_name)
    assert result.sent
    assert result.reference == f"{registry.host}/team/model@{built.image_digest}"
    assert remote_digest(f"{target}:v1") == built.image_digest
    for digest in built.image.blobs:
        algorithm, _, value = digest.partition(":")
        assert list(registry.data.rglob(f"blobs/{algorithm}/??/{value}/data"))
    assert docker(cli, "image", "inspect", f"{target}:v1").returncode != 0

    again = push(built.layout, target, tag="v1", image_name=built.image_name)
    assert not again.sent
    assert again.digest == built.image_digest


def test_an_image_that_the_engine_lost_is_pushed_from_the_layout(
    built: BuildResult, registry: Registry, cli: DockerCli
) -> None:
    docker(cli, "image", "rm", "--force", built.image_name)
    target = Repository.parse(f"{registry.host}/team/lost")
    assert push(built.layout, target, tag="v1", image_name=built.image_name).sent
    assert remote_digest(f"{target}@{built.image_digest}") == built.image_digest


def test_a_moved_tag_is_reported(request_for: Make, built: BuildResult, registry: Registry) -> None:
    target = Repository.parse(f"{registry.host}/team/moved")
    push(built.layout, target, tag="v1", image_name=built.image_name)
    other = build(request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word\n"))
    moved = push(other.layout, target, tag="v1", image_name=other.image_name)
    assert moved.moved_from == built.image_digest
    assert remote_digest(f"{target}:v1") == other.image_digest


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, "it wants a login"),
        (403, "the login may not write there"),
        (500, "it failed itself"),
        (503, "it failed itself"),
    ],
)
def test_a_registry_that_refuses(built: BuildResult, status: int, cause: str) -> None:
    with _refusing(status) as host:
        target = Repository.parse(f"{host}/team/model")
        with pytest.raises(RelforgeError) as caught:
            push(built.layout, target, tag="v1", image_name=built.image_name)
    error = caught.value
    assert error.code is ExitCode.PUBLISH
    assert error.where == f"{host}/team/model:v1"
    assert (error.why or "").startswith(cause), error.why
    assert error.hint


def test_a_closed_port(built: BuildResult) -> None:
    target = Repository.parse(f"127.0.0.1:{free_port()}/team/model")
    with pytest.raises(RelforgeError) as caught:
        push(built.layout, target, tag="v1", image_name=built.image_name)
    assert caught.value.code is ExitCode.PUBLISH
    assert (caught.value.why or "").startswith("it cannot be reached")


def test_what_a_registry_does_not_have(registry: Registry) -> None:
    assert remote_digest(f"{registry.host}/team/nothing:v1") is None


@contextmanager
def _refusing(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

        def send_error(self, code: int, *_: object, **__: object) -> None:
            # To a TLS greeting a real registry answers in plain HTTP, which tells the client.
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
