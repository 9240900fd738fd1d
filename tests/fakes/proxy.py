"""A stand-in HTTP proxy that records: plain requests by absolute address, and CONNECT tunnels.

It alone knows where the hosts of a test are, so whatever reaches one has come through it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te"}


class FakeProxy:
    """A proxy on loopback (or ``address``). ``hosts``: port on loopback by name or ``name:port``.

    Hosts that are not named are refused, or looked for where everybody does (``elsewhere``).
    ``asked`` has every request; ``login`` (``user:password``) is asked for where it is set.
    ``seen_in_argv`` names processes that ran, while something was asked, with a secret of
    ``secrets`` in their argument list.
    """

    def __init__(
        self,
        hosts: Mapping[str, int] | None = None,
        *,
        login: str | None = None,
        address: str = "127.0.0.1",
        elsewhere: bool = False,
    ) -> None:
        self.hosts = dict(hosts or {})
        self.login = login
        self.elsewhere = elsewhere
        self.asked: list[str] = []
        self.secrets: tuple[str, ...] = ()
        self.seen_in_argv: set[str] = set()
        proxy = self

        class Handler(_Handler):
            served = proxy

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{address}:{self.port}"

    def __enter__(self) -> FakeProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def target(self, host: str, port: int) -> tuple[str, int] | None:
        found = self.hosts.get(f"{host}:{port}", self.hosts.get(host))
        if found is not None:
            return "127.0.0.1", found
        return (host, port) if self.elsewhere else None

    def look_for_secrets(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                argv = (process / "cmdline").read_bytes().decode("utf-8", "replace")
                if any(secret in argv for secret in self.secrets):
                    self.seen_in_argv.add(argv.replace("\0", " "))


class _Handler(BaseHTTPRequestHandler):
    served: FakeProxy
    protocol_version = "HTTP/1.1"  # after "who is there" the client goes on where it is

    def do_GET(self) -> None:
        if not self._admitted():
            return
        parts = urlsplit(self.path)
        target = self.served.target(parts.hostname or "", parts.port or 80)
        if target is None:
            self._refuse(502, "no such host")
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            body = b"".join(iter(self._chunk, b""))
        kept = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in {*_HOP_BY_HOP, "transfer-encoding", "content-length"}
        }
        path = parts._replace(scheme="", netloc="").geturl() or "/"
        upstream = http.client.HTTPConnection(*target, timeout=60)
        try:
            upstream.request(self.command, path, body=body, headers=kept)
            answer = upstream.getresponse()
            self.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in {*_HOP_BY_HOP, "transfer-encoding", "server", "date"}:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read(64 * 1024):
                self.wfile.write(piece)
        finally:
            upstream.close()

    do_HEAD = do_POST = do_PUT = do_GET

    def do_CONNECT(self) -> None:
        if not self._admitted():
            return
        host, _, port = self.path.rpartition(":")
        target = self.served.target(host, int(port))
        if target is None:
            self._refuse(502, "no such host")
            return
        with socket.create_connection(target, 60) as upstream:
            self.wfile.write(b"HTTP/1.1 200 connected\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
            back.start()
            _pump(self.connection, upstream)
            back.join()
        self.close_connection = True

    def _admitted(self) -> bool:
        proxy = self.served
        proxy.asked.append(f"{self.command} {self.path}")
        proxy.look_for_secrets()
        if proxy.login is None:
            return True
        wanted = "Basic " + base64.b64encode(proxy.login.encode()).decode()
        if self.headers.get("Proxy-Authorization") == wanted:
            return True
        self._refuse(407, "who is there")
        return False

    def _refuse(self, status: int, reason: str) -> None:
        self.send_response(status, reason)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="test"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def log_message(self, *_: object) -> None:
        pass


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(64 * 1024):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
