"""A stand-in for GitHub's REST API for releases and their assets, with faults on demand.

Behaves as the documentation of version 2022-11-28 says: drafts are in the list alone, uploads go to
an address of their own, a broken upload leaves an asset in the state ``starter``, names are taken
once (422), and an asset tells its SHA-256 where ``tells_digests``.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "ghp_stand-in-for-a-real-token"
REPOSITORY = "makers/pages"
_PAGE = 2
"""Releases on one page, so that few make several."""


@dataclass
class Fault:
    """What becomes of the next ``times`` requests of this method whose path matches ``path``.

    ``status`` answers so, with ``message`` and ``headers``. ``cut``: the answer ends early.
    ``reset``: the connection breaks after so many bytes of the request's body. ``drip_s``: between
    two bytes of the answer. ``afterwards``: the request is carried out first, and then the fault
    comes, or the connection breaks where there is no ``status``.
    """

    method: str
    path: str
    status: int = 0
    message: str = "out of order"
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    cut: bool = False
    reset: int | None = None
    drip_s: float = 0.0
    afterwards: bool = False
    errors: tuple[Mapping[str, str], ...] = ()


class FakeGithub:
    """One repository. ``releases`` is what it has, ``asked`` every request, ``uploads`` every
    upload that arrived whole."""

    def __init__(self, *, tells_digests: bool = True) -> None:
        self.token = TOKEN
        self.tells_digests = tells_digests
        self.releases: list[dict[str, Any]] = []
        self.contents: dict[int, bytes] = {}
        self.asked: list[str] = []
        self.uploads: list[str] = []
        self.faults: list[Fault] = []
        self.next_page: str | None = None
        """Where the list of releases is said to go on, whatever is true."""
        self.lock = threading.Lock()
        self._ids = iter(range(1, 10_000))
        fake = self

        class Handler(_Handler):
            github = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FakeGithub:
        self._thread.start()
        return self

    def __exit__(self, *ending: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_id(self) -> int:
        return next(self._ids)

    def changed(self) -> int:
        """How many requests could have changed something."""
        return sum(not one.startswith("GET") for one in self.asked)

    def release(self, tag: str) -> dict[str, Any]:
        """The only release of a tag."""
        (found,) = [one for one in self.releases if one["tag_name"] == tag]
        return found

    def assets(self, tag: str) -> dict[str, bytes]:
        """The assets of a release that are whole."""
        return {
            one["name"]: self.contents[one["id"]]
            for one in self.release(tag)["assets"]
            if one["state"] == "uploaded"
        }


class _Handler(BaseHTTPRequestHandler):
    github: FakeGithub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_args: object) -> None:
        pass

    def _serve(self) -> None:
        fake = self.github
        fake.asked.append(f"{self.command} {self.path}")
        fault = next((one for one in fake.faults if self._hit(one)), None)
        if fault is not None:
            fault.times -= 1
            if fault.reset is not None:
                part = self.rfile.read(fault.reset)
                if "/assets?" in self.path:
                    self._asset(part, "starter")
                self._break()
                return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault is None or fault.afterwards or fault.cut or fault.drip_s:
            with fake.lock:
                status, value, headers = self._answer(body)
        else:
            status, value, headers = 0, None, {}
        if fault is not None and fault.status:
            value = {"message": fault.message, "errors": list(fault.errors)}
            status, headers = fault.status, dict(fault.headers)
        if fault is not None and fault.afterwards and not fault.status:
            self._break()
            return
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self._send(status, b"" if status == 204 else data, headers, fault)

    def _hit(self, fault: Fault) -> bool:
        return (
            fault.times > 0
            and fault.method == self.command
            and re.search(fault.path, self.path) is not None
        )

    def _send(
        self, status: int, data: bytes, headers: Mapping[str, str], fault: Fault | None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault is not None and fault.cut:
            self.wfile.write(data[: len(data) // 2])
            self._break()
        elif fault is not None and fault.drip_s:
            try:
                for at in range(len(data)):
                    self.wfile.write(data[at : at + 1])
                    self.wfile.flush()
                    time.sleep(fault.drip_s)
            except OSError:  # the client has had enough
                self.close_connection = True
        else:
            self.wfile.write(data)

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    def _answer(self, body: bytes) -> tuple[int, Any, dict[str, str]]:
        fake = self.github
        if self.headers.get("Authorization") != f"Bearer {fake.token}":
            return 401, {"message": "Bad credentials"}, {}
        parts = urlsplit(self.path)
        base = f"/repos/{REPOSITORY}/releases"
        if not parts.path.startswith((base, f"/upload{base}")):
            return 404, {"message": "Not Found"}, {}
        rest = parts.path.partition(base)[2]
        if rest == "":
            return self._releases(body, parse_qs(parts.query))
        if named := re.fullmatch(r"/assets/(\d+)", rest):
            return self._one_asset(int(named[1]))
        if named := re.fullmatch(r"/(\d+)(/assets)?", rest):
            found = [one for one in fake.releases if one["id"] == int(named[1])]
            if not found:
                return 404, {"message": "Not Found"}, {}
            if named[2] and self.command == "POST":
                name = parse_qs(parts.query)["name"][0]
                if any(one["name"] == name for one in found[0]["assets"]):
                    error = {"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}
                    return 422, {"message": "Validation Failed", "errors": [error]}, {}
                fake.uploads.append(name)
                return 201, self._asset(body, "uploaded"), {}
            if named[2]:
                return 200, found[0]["assets"], {}
            return self._one_release(found[0], body)
        return 404, {"message": "Not Found"}, {}

    def _releases(
        self, body: bytes, query: Mapping[str, list[str]]
    ) -> tuple[int, Any, dict[str, str]]:
        fake = self.github
        if self.command == "GET":
            page = int(query.get("page", ["1"])[0])
            newest = fake.releases[::-1]
            shown = newest[(page - 1) * _PAGE : page * _PAGE]
            headers = {}
            if len(newest) > page * _PAGE:
                place = f"{fake.url}/repos/{REPOSITORY}/releases?page={page + 1}"
                headers["Link"] = f'<{place}>; rel="next"'
            if fake.next_page is not None:
                headers["Link"] = f'<{fake.next_page}>; rel="next"'
            return 200, shown, headers
        value = json.loads(body)
        number = fake.next_id()
        made = {
            "id": number,
            "html_url": f"https://github.example/{REPOSITORY}/releases/{number}",
            "upload_url": f"{fake.url}/upload/repos/{REPOSITORY}/releases/{number}/assets{{?name}}",
            "assets": [],
            **value,
        }
        fake.releases.append(made)
        return 201, made, {}

    def _one_release(self, found: dict[str, Any], body: bytes) -> tuple[int, Any, dict[str, str]]:
        if self.command == "DELETE":
            self.github.releases.remove(found)
            return 204, None, {}
        if self.command == "PATCH":
            found.update(json.loads(body))
        return 200, found, {}

    def _one_asset(self, number: int) -> tuple[int, Any, dict[str, str]]:
        fake = self.github
        if self.command == "GET":
            return 200, fake.contents[number], {}
        for release in fake.releases:
            release["assets"] = [one for one in release["assets"] if one["id"] != number]
        return 204, None, {}

    def _asset(self, data: bytes, state: str) -> dict[str, Any]:
        fake = self.github
        parts = urlsplit(self.path)
        release = int(parts.path.split("/")[-2])
        number = fake.next_id()
        fake.contents[number] = data
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        made = {
            "id": number,
            "url": f"{fake.url}/repos/{REPOSITORY}/releases/assets/{number}",
            "name": parse_qs(parts.query)["name"][0],
            "state": state,
            "size": len(data),
            "digest": digest if fake.tells_digests and state == "uploaded" else None,
        }
        for one in fake.releases:
            if one["id"] == release:
                one["assets"].append(made)
        return made
