"""Which scheme a registry at this host's own address wants, as Docker finds it out."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from relforge.network import speaks_tls
from tests.support.tls import self_signed


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers one connection."""

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            with closing(connection):
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    thread.join(10)


def in_tls(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)

    return answer


def test_whoever_it_is_it_speaks_tls(tmp_path: Path) -> None:
    _, context = self_signed(tmp_path)
    with server(in_tls(context)) as host:
        assert speaks_tls(host, 10)


def test_one_that_wants_our_certificate_speaks_it_too(tmp_path: Path) -> None:
    authority, context = self_signed(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # refuses within the handshake
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    with server(in_tls(context)) as host:
        assert speaks_tls(host, 10)


def test_plain_http_does_not() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with server(answer) as host:
        assert not speaks_tls(host, 10)


def test_nobody_and_one_that_never_answers_do_not() -> None:
    held = threading.Event()

    def answer(_connection: socket.socket) -> None:
        held.wait(10)

    with server(answer) as host:
        assert not speaks_tls(host, 0.2)
        held.set()
    assert not speaks_tls(host, 1)
    assert not speaks_tls("127.0.0.1:99999", 1)
