"""What the stand-ins of hubs that are written to have in common: answers, tokens, and faults.

A fault hits requests by method and path, a number of times: a status instead of the answer, an
answer that is cut off, one that is lost after the work was done, a connection that is reset while
a body is read, an answer that trickles.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

FaultName = Literal["status", "cut", "lost", "reset", "trickle", "hold", "before", "after"]


@dataclass
class Fault:
    """``where`` is a pattern of ``METHOD /path``. ``hold`` waits for ``go_on`` after the first
    bytes of a body, ``before`` before the work is done, ``after`` when it was, with the answer not
    sent yet. ``then`` is called at that moment."""

    where: str
    kind: FaultName = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"<html>out of order</html>"
    times: int = 1
    then: Callable[[], None] = field(default=lambda: None)


@dataclass
class Answer:
    """What a route says."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Answer:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **named}
        )


class Refused(Exception):
    """Raised by a route."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


@dataclass
class Asked:
    """A request, with its body read."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    token: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HubServer:
    """A port, users by token, faults. ``asked`` has every request as ``METHOD /path``."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self.users = dict(users)
        self.readers: set[str] = set()
        """Tokens that may not write."""
        self.expires_after: int | None = None
        """So many requests are answered; then no token is good any more."""
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.body_bytes = 0
        """Of all bodies that arrived."""
        self.holding = threading.Event()
        self.go_on = threading.Event()
        self.lock = threading.RLock()
        hub = self

        class Handler(_Handler):
            served = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        # Large files lie on another host.
        self.storage_url = f"http://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def route(self, asked: Asked) -> Answer:
        """The answer. Raises Refused."""
        raise NotImplementedError

    def unauthorized(self) -> Answer:
        """The answer to a token that is not known."""
        raise NotImplementedError

    def forbidden(self) -> Answer:
        """The answer to a token that may not write."""
        raise NotImplementedError

    def count(self, pattern: str) -> int:
        """How many requests there were of these."""
        return sum(bool(re.search(pattern, one)) for one in self.asked)

    def hold(self) -> None:
        """For ``then`` of a fault: says that it is here, and waits for ``go_on``."""
        self.holding.set()
        self.go_on.wait(60)

    def fault_for(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.where, request):
                    fault.times -= 1
                    return fault
        return None

    def user_of(self, asked: Asked) -> str:
        """Raises Refused."""
        if asked.token not in self.users:
            raise Refused(self.unauthorized())
        if asked.token in self.readers and asked.method != "GET":
            raise Refused(self.forbidden())
        return self.users[asked.token]


class _Handler(BaseHTTPRequestHandler):
    served: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        hub = self.served
        parts = urlsplit(self.path)
        request = f"{self.command} {unquote(parts.path)}"
        with hub.lock:
            hub.asked.append(request)
            if hub.expires_after is not None:
                hub.expires_after -= 1
                if hub.expires_after < 0:
                    hub.users.clear()
        fault = hub.fault_for(request)
        size = int(self.headers.get("Content-Length") or 0)
        body = self._body(size, fault)
        if body is None:
            return
        header = self.headers.get("Authorization") or ""
        asked = Asked(
            self.command,
            unquote(parts.path),
            {name: values[0] for name, values in parse_qs(parts.query).items()},
            dict(self.headers.items()),
            body,
            header.removeprefix("Bearer ") or None,
        )
        if fault is not None and fault.kind == "status":
            fault.then()
            self._send(Answer(fault.status, fault.body, dict(fault.headers)))
            return
        if fault is not None and fault.kind == "before":
            fault.then()
        try:
            with hub.lock:
                answer = hub.route(asked)
        except Refused as refused:
            answer = refused.answer
        if fault is not None and fault.kind in ("lost", "after"):
            fault.then()
        if fault is None or fault.kind in ("hold", "before", "after"):
            self._send(answer)
        elif fault.kind == "lost":
            self._reset()
        else:
            self._send(answer, fault.kind)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _body(self, size: int, fault: Fault | None) -> bytes | None:
        """The request's body; None after the connection was reset instead."""
        found = bytearray()
        while len(found) < size:
            chunk = self.rfile.read(min(65536, size - len(found)))
            if not chunk:
                self.close_connection = True
                return None
            found += chunk
            with self.served.lock:
                self.served.body_bytes += len(chunk)
            if fault is not None and fault.kind == "reset":
                self._reset()
                return None
            if fault is not None and fault.kind == "hold":
                self.served.hold()
        if fault is not None and fault.kind == "reset":
            self._reset()
            return None
        return bytes(found)

    def _send(self, answer: Answer, fault: FaultName | None = None) -> None:
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "cut":
                self.wfile.write(answer.body[: len(answer.body) // 2])
                self.wfile.flush()
                self._reset()
            elif fault == "trickle":
                for at in range(len(answer.body)):
                    self.wfile.write(answer.body[at : at + 1])
                    self.wfile.flush()
                    time.sleep(0.5)
            else:
                self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True

    def _reset(self) -> None:
        # With this option closing sends a reset instead of an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
