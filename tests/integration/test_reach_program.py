"""What asks, inside a node's container, whether the nodes reach each other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from relforge.serving import reach_program


def argv(*words: object) -> list[str]:
    # -I: it may find nothing of ours where it runs.
    return [sys.executable, "-I", reach_program.__file__, *map(str, words)]


@contextmanager
def listening(*places: object) -> Iterator[list[dict[str, object]]]:
    """What a listener with the word ``hello`` prints; it is killed when the block is left."""
    child = subprocess.Popen(argv("listen", "hello", *places), stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.communicate(timeout=10)


def ask(*words: object) -> list[str | None]:
    done = subprocess.run(argv("ask", *words), capture_output=True, check=True, timeout=30)
    found: list[str | None] = json.loads(done.stdout)
    return found


def test_who_listens_is_known_by_its_word() -> None:
    with listening("127.0.0.1", 0, "0.0.0.0", 0) as found:
        first, second = (int(str(one["port"])) for one in found)
        assert ask("127.0.0.1", first, "hello", "localhost", second, "hello") == [None, None]
        assert (
            ask("127.0.0.1", first, "hell", "127.0.0.1", first, "hello you")
            == ["something else listens there"] * 2
        )
        assert reach_program.asked("127.0.0.1", first, "hello") is None
    assert ask("127.0.0.1", first, "hello") == ["Connection refused"]


def test_a_port_can_be_used_as_soon_as_it_was_asked() -> None:
    with listening("127.0.0.1", 0) as found:
        port = int(str(found[0]["port"]))
        for _ in range(20):
            assert reach_program.asked("127.0.0.1", port, "hello") is None
    with socket.socket() as server:  # without SO_REUSEADDR: nothing of it may be left
        server.bind(("127.0.0.1", port))


def test_what_cannot_be_listened_at_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listening("127.0.0.1", port, "127.0.0.1", 0, "192.0.2.1", 0) as found:
            assert found[0] == {"error": "Address already in use"}
            assert set(found[1]) == {"port"}
            assert found[2] == {"error": "Cannot assign requested address"}


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"x" * 4096])
def test_a_stranger_is_no_node(greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach_program, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def greet() -> None:
            connection, _ = stranger.accept()
            with connection, suppress(ConnectionResetError):
                connection.sendall(greeting)
                connection.recv(1)

        thread = threading.Thread(target=greet)
        thread.start()
        port = stranger.getsockname()[1]
        assert reach_program.asked("127.0.0.1", port, "hello") == "something else listens there"
        thread.join(10)


def test_a_name_that_nobody_knows_is_said() -> None:
    (said,) = ask("no-such-host.invalid", 1, "hello")
    assert said is not None
    assert "ame" in said  # "Name or service not known", or "Temporary failure in name resolution"
