"""A proxy in front of a registry that lets chosen requests go wrong, and counts what was sent.

It speaks plain HTTP on loopback and hands every request on with the ``Host`` that it came with, so
that upload addresses lead through it; with those that a fault names it does what the fault says.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}
_BLOCK = 1 << 16

Kind = Literal["status", "reset", "truncate", "trickle", "hang", "lost", "altered"]
"""``reset``: after half of the request's body was handed on. ``lost``: the registry does it, and
its answer never comes. ``altered``: one byte of the answer's body."""


@dataclass
class Fault:
    """Hits ``times`` requests of that method and path, after ``skip`` that go through."""

    kind: Kind
    method: str = "[A-Z]+"
    path: str = ""
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: float = float("inf")
    skip: int = 0
    hits: int = 0

    def wants(self, method: str, path: str) -> bool:
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.hits >= self.times:
            return False
        self.hits += 1
        return True


class FaultyRegistry:
    """``host`` is where clients go. ``asked`` has method, path and status of every request, the
    status of one that got no answer is 0; ``body_bytes`` what came with each."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, int]] = []
        self.body_bytes: list[tuple[str, str, int]] = []
        self.lock = threading.Lock()
        self.ending = threading.Event()
        outer = self

        class Handler(_Handler):
            served = outer

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            return next((fault for fault in self.faults if fault.wants(method, path)), None)

    def sent(self, method: str, path: str = "") -> int:
        """The bytes that came with requests of that method and path."""
        return sum(n for m, p, n in self.body_bytes if m == method and re.search(path, p))

    def count(self, method: str, path: str = "") -> int:
        return sum(m == method and bool(re.search(path, p)) for m, p, _ in self.asked)

    def forget(self) -> None:
        """Faults and counts."""
        with self.lock:
            self.faults, self.asked, self.body_bytes = [], [], []

    def __enter__(self) -> FaultyRegistry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def faulty(backend: str) -> Iterator[FaultyRegistry]:
    with FaultyRegistry(backend) as proxy:
        yield proxy


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that went away are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FaultyRegistry

    def answer(self) -> None:
        fault = self.served.fault_for(self.command, self.path)
        status = 0
        try:
            status = self._one(fault)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            with self.served.lock:
                self.served.asked.append((self.command, self.path, status))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def _one(self, fault: Fault | None) -> int:
        if fault is not None and fault.kind == "hang":
            self.served.ending.wait(60)
            self.close_connection = True
            return 0
        length = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.kind == "status":
            self._drain(length)
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(fault.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(fault.body)
            return fault.status
        half = fault is not None and fault.kind == "reset"
        host, _, port = self.served.backend.rpartition(":")
        backend = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    backend.putheader(name, value)
            backend.endheaders()
            passed = self._pass(backend, length // 2 if half else length)
            with self.served.lock:
                self.served.body_bytes.append((self.command, self.path, passed))
            if half:
                if backend.sock is not None:
                    backend.sock.close()
                return self._reset()
            response = backend.getresponse()
            return self._back(response, response.read(), fault)
        finally:
            backend.close()

    def _back(self, response: http.client.HTTPResponse, data: bytes, fault: Fault | None) -> int:
        if fault is not None and fault.kind == "lost":
            return self._reset()
        if fault is not None and fault.kind == "altered" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        if fault is not None and fault.kind == "truncate":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault is not None and fault.kind == "trickle":
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.served.ending.wait(0.05):
                    break
            self.close_connection = True
        else:
            self.wfile.write(data)
        return response.status

    def _pass(self, backend: http.client.HTTPConnection, count: int) -> int:
        passed = 0
        while passed < count:
            data = self.rfile.read(min(_BLOCK, count - passed))
            if not data:
                break
            backend.send(data)
            passed += len(data)
        return passed

    def _drain(self, count: int) -> None:
        while count > 0 and (data := self.rfile.read(min(_BLOCK, count))):
            count -= len(data)

    def _reset(self) -> int:
        """Closes with RST, as a machine that goes down does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        time.sleep(0.01)
        self.connection.close()
        return 0

    def log_message(self, *_: object) -> None:
        pass
