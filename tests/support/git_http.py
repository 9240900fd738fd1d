"""Git over HTTP with Basic login: ``git http-backend`` behind Python's own server."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What happens to the next requests whose path or query holds ``path``, ``times`` times.

    ``status`` answers so; with 0 the connection is reset. ``after_bytes`` reads so much of the
    request's body first. ``holds`` waits for ``go_on`` before it goes to git.
    """

    path: str
    status: int = 503
    times: int = 1
    after_bytes: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    holds: bool = False


class GitHttp:
    """Serves the bare repositories below ``root``. ``asked`` has every request."""

    def __init__(self, root: Path, *, login: tuple[str, str] | None = None) -> None:
        self.root = root
        self.login = login
        self.asked: list[str] = []
        self.faults: list[Fault] = []
        self.held = threading.Event()
        self.go_on = threading.Event()
        served = self

        class Handler(_Handler):
            server_ = served

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> GitHttp:
        self._thread.start()
        return self

    def __exit__(self, *ending: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str) -> str:
        """The address of a repository."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def pushes(self) -> int:
        """How many packs of objects or moves of references were sent."""
        return sum(one.startswith("POST") and "receive-pack" in one for one in self.asked)


class _Handler(BaseHTTPRequestHandler):
    server_: GitHttp
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(None)

    def log_message(self, *_args: object) -> None:
        pass

    def _serve(self, body: bytes | None) -> None:
        served = self.server_
        served.asked.append(f"{self.command} {self.path}")
        for fault in served.faults:
            if fault.times > 0 and fault.path in self.path:
                fault.times -= 1
                if fault.holds:
                    served.held.set()
                    served.go_on.wait(60)
                    break
                self.rfile.read1(fault.after_bytes or 1) if fault.after_bytes else None
                if fault.status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                self._answer(fault.status, fault.headers, b"the server is out of order")
                self.close_connection = True
                return
        if served.login is not None and not self._logged_in(served.login):
            body = self._body() if body is None else body
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"log in")
            return
        self._backend(self._body() if body is None else body)

    def _logged_in(self, login: tuple[str, str]) -> bool:
        wanted = base64.b64encode(":".join(login).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _backend(self, body: bytes) -> None:
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = urlsplit(self.path)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.server_.root),
            "GIT_PROJECT_ROOT": str(self.server_.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "somebody",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=env, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        rows = [row.split(": ", 1) for row in head.decode().split("\r\n") if ": " in row]
        headers = dict(rows)
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(status, headers, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def bare_repository(path: Path, *, filters: bool = True) -> Path:
    """An empty repository that takes pushes over HTTP; ``filters``: it allows partial clones."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
    settings = {"http.receivepack": "true", "uploadpack.allowFilter": str(filters).lower()}
    for name, value in settings.items():
        subprocess.run(["git", "-C", path, "config", name, value], check=True)
    return path
