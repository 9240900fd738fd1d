"""What the source tests share: a package index, a git server, and hosts that do not answer."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import socket
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

Answer = tuple[int, str, bytes]


class Server:
    """An HTTP server in a thread; ``answer`` decides, ``asked`` records every path.

    An answer is status, type and body; with status 302 the type is where to go.
    """

    def __init__(
        self,
        answer: Callable[[BaseHTTPRequestHandler], Answer],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status, kind, body = answer(self)
                self.send_response(status)
                self.send_header("Location" if status == 302 else "Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = self._server.server_address[1]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Index:
    """A simple index (PEP 503) of files that a test adds."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.hashes = True
        self.server = Server(self._answer, tls=tls)

    @property
    def url(self) -> str:
        return f"{self.server.url}/simple"

    def add(self, project: str, name: str, data: bytes) -> str:
        self.files.setdefault(project, {})[name] = data
        return hashlib.sha256(data).hexdigest()

    def downloads(self) -> list[str]:
        return [path for path in self.server.asked if path.startswith("/files/")]

    def _answer(self, request: BaseHTTPRequestHandler) -> Answer:
        parts = request.path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2 and parts[1] in self.files:
            rows = []
            for name, data in self.files[parts[1]].items():
                mark = f"#sha256={hashlib.sha256(data).hexdigest()}" if self.hashes else ""
                link = f"/files/{parts[1]}/{quote(name)}{mark}"
                rows.append(f'<a href="{link}">{name}</a>')
            return 200, "text/html", ("<html><body>" + "\n".join(rows)).encode()
        if parts[0] == "files":
            for name, data in self.files.get(parts[1], {}).items():
                if quote(name) == parts[2]:
                    return 200, "application/octet-stream", data
        return 404, "text/plain", b"no"


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port on which a connection neither succeeds nor fails: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sdist(
    top: str, files: dict[str, bytes], *, extra: Callable[[tarfile.TarFile], None] | None = None
) -> bytes:
    """A .tar.gz; names that end in ``.sh`` are executable, values that start with ``->`` links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.mtime = 1_700_000_000
            if data.startswith(b"->"):
                member.type = tarfile.SYMTYPE
                member.linkname = data[2:].decode()
                tar.addfile(member)
                continue
            member.size = len(data)
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(data))
        if extra:
            extra(tar)
    return buffer.getvalue()


def wheel(
    name: str,
    version: str,
    files: dict[str, bytes] | None = None,
    *,
    requires: tuple[str, ...] = (),
    extras: tuple[str, ...] = (),
    tag: str = "py3-none-any",
) -> bytes:
    """A small valid wheel."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {row}\n" for row in requires)
    metadata += "".join(f"Provides-Extra: {row}\n" for row in extras)
    content = {
        f"{name}/__init__.py": b"value = 1\n",
        **(files or {}),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = ""
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    content[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path, (2024, 5, 6, 7, 8, 10))
            entry.external_attr = (0o100755 if path.endswith(".sh") else 0o100644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def git(*args: str | Path, cwd: Path) -> str:
    """A person's own git, apart from relforge's wrapper."""
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{r}_{k}": v for r in ("AUTHOR", "COMMITTER") for k, v in _PERSON.items()},
    }
    done = subprocess.run(
        ["git", *map(str, args)], cwd=cwd, env=env, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


_PERSON = {"NAME": "t", "EMAIL": "t@invalid", "DATE": "1700000000 +0000"}


def repository(path: Path, files: dict[str, bytes]) -> str:
    """A git repository with one commit of these files; returns the commit."""
    path.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main", cwd=path)
    return commit(path, files)


def commit(path: Path, files: dict[str, bytes]) -> str:
    """One more commit."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    git("add", "--all", cwd=path)
    git("commit", "--quiet", "--message=x", cwd=path)
    return git("rev-parse", "HEAD", cwd=path)


def folder_server(root: Path) -> Server:
    """Files as they lie: git calls it dumb HTTP."""

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        path = root / request.path.partition("?")[0].lstrip("/")
        if path.is_file():
            return 200, "application/octet-stream", path.read_bytes()
        return 404, "text/plain", b""

    return Server(answer)


def git_server(
    root: Path, *, password: str | None = None, tls: ssl.SSLContext | None = None
) -> Server:
    """git's own HTTP backend over the repositories below *root*."""

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        if password is not None:
            wanted = "Basic " + base64.b64encode(f"user:{password}".encode()).decode()
            if request.headers.get("Authorization") != wanted:
                return 401, "text/plain", b"no"
        path, _, query = request.path.partition("?")
        env = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        out = subprocess.run(
            ["git", "http-backend"], env=env, input=body, capture_output=True, check=False
        ).stdout  # it ends with status 1 for a commit that is not there, and says so in the answer
        head, _, rest = out.partition(b"\r\n\r\n")
        fields = dict(row.split(b": ", 1) for row in head.split(b"\r\n"))
        status = int(fields.get(b"Status", b"200").split()[0])
        return status, fields.get(b"Content-Type", b"text/plain").decode(), rest

    return Server(answer, tls=tls)
