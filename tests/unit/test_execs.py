"""What a further command in a container writes, from an answer that comes in any pieces."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
from docker.errors import APIError

from relforge.engine.execs import output_of

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Api-Version: 1.47\r\n\r\n"
)


def piece(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@contextmanager
def engine(folder: Path, *sent: bytes) -> Iterator[docker.APIClient]:
    """An engine's socket that answers any request with these packets."""

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            self.rfile.read(size)
            for packet in sent:
                self.request.sendall(packet)

    path = folder / "engine.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = docker.APIClient(base_url=f"unix://{path}", version="1.47")
        try:
            yield client
        finally:
            client.close()
            server.shutdown()


def test_what_comes_along_with_the_head_of_the_answer_is_not_lost(tmp_path: Path) -> None:
    pieces = piece(1, b"first\n") + piece(2, b"wrong\n") + piece(1, b"last\n")
    with engine(tmp_path, HEAD + pieces) as client:
        assert output_of(client, "1") == (b"first\nlast\n", b"wrong\n")


def test_pieces_that_come_one_byte_at_a_time(tmp_path: Path) -> None:
    whole = HEAD + piece(1, b"x" * 300) + piece(2, b"")
    with engine(tmp_path, *(bytes([one]) for one in whole)) as client:
        assert output_of(client, "1") == (b"x" * 300, b"")


def test_an_answer_without_output(tmp_path: Path) -> None:
    with engine(tmp_path, HEAD) as client:
        assert output_of(client, "1") == (b"", b"")


def test_an_answer_that_ends_in_the_middle_is_an_error(tmp_path: Path) -> None:
    with (
        engine(tmp_path, HEAD + piece(1, b"abcdef")[:-2]) as client,
        pytest.raises(OSError, match="ended after 4 of 6 bytes"),
    ):
        output_of(client, "1")


def test_what_the_engine_refuses_has_its_words(tmp_path: Path) -> None:
    said = b'{"message": "container 1 is not running"}'
    head = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with (
        engine(tmp_path, head % len(said) + said) as client,
        pytest.raises(APIError, match="container 1 is not running"),
    ):
        output_of(client, "1")
