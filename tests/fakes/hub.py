"""Stand-in hubs: the HTTP that huggingface_hub and modelscope speak, for repositories of models;
of the Hugging Face Hub also for those of datasets, which are called ``datasets/<owner>/<name>``.

Written after the hubs' public descriptions and what the clients ask: for the Hugging Face Hub
``/api/models/<id>/revision/<revision>`` and ``/<id>/resolve/<revision>/<path>``, large files by a
redirect to another host; for ModelScope ``/api/v1/models/<id>/repo/files`` and ``.../repo``.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_CHUNK = 64 * 1024


@dataclass
class Repo:
    """One repository: files by revision. ``token`` opens it; ``large`` files are not in git."""

    revisions: dict[str, dict[str, bytes]]
    token: str | None = None
    gated: bool = False
    large: tuple[str, ...] = ()
    listed: dict[str, bytes] = field(default_factory=dict)
    """What the listing shows in place of a file's real content."""
    branches: dict[str, str] = field(default_factory=dict)


@dataclass
class Sent:
    """One answer that carried a file's bytes."""

    path: str
    start: int
    host: str
    authorized: bool
    count: int = 0


class FakeHub:
    """Both hubs on one port. ``asked`` has every request, ``sent`` every file that was sent."""

    def __init__(
        self, repos: Mapping[str, Repo] | None = None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.repos: dict[str, Repo] = dict(repos or {})
        self.asked: list[str] = []
        self.sent: list[Sent] = []
        self.stall_after: int | None = None
        """A file's answer stands still after so many bytes, until ``go_on`` is set."""
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.drop_after: int | None = None
        """The first answer that gets so far ends there, as a broken line does."""
        hub = self

        class Handler(_Handler):
            served = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port: int = self._server.server_address[1]
        scheme = "http"
        if tls is not None:
            scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.storage_url = f"{scheme}://localhost:{self.port}"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def sent_bytes(self) -> int:
        return sum(one.count for one in self.sent)


class _Handler(BaseHTTPRequestHandler):
    served: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.served.asked.append(f"{self.command} {self.path}")
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = unquote(parts.path).strip("/").split("/")
        try:
            if words[:3] == ["api", "v1", "models"] and len(words) > 5:
                self._modelscope("/".join(words[3:5]), words[5:], query)
            elif words[:3] == ["openapi", "v1", "models"]:
                self._modelscope_info("/".join(words[3:5]))
            elif words[:2] == ["api", "models"] and words[4:5] == ["revision"]:
                self._info("/".join(words[2:4]), words[5])
            elif words[2:3] == ["resolve"]:
                self._resolve("/".join(words[:2]), words[3], "/".join(words[4:]))
            elif words[:2] == ["api", "datasets"] and len(words) > 5:
                self._dataset("datasets/" + "/".join(words[2:4]), words[4], words[5], words[6:])
            elif words[0] == "datasets" and words[3:4] == ["resolve"]:
                self._resolve("/".join(words[:3]), words[4], "/".join(words[5:]))
            elif words[0] == "storage":
                self._storage(words[1])
            else:
                self._json(404, {"error": "not here", "Code": 404, "Message": "not here"})
        except BrokenPipeError:
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass

    @property
    def _authorized_as(self) -> str | None:
        header = self.headers.get("Authorization") or ""
        return header.removeprefix("Bearer ") or None

    def _json(self, status: int, value: Any, code: str | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code is not None:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _open(self, repo_id: str) -> Repo | None:
        """The repository, or None after the Hub's answer to somebody who may not see it."""
        repo = self.served.repos.get(repo_id)
        if repo is None:
            # The Hub does not tell strangers whether a name exists.
            status = 401 if self._authorized_as is None else 404
            self._json(status, {"error": "Repository not found"}, "RepoNotFound")
        elif repo.token is not None and self._authorized_as != repo.token:
            if repo.gated:
                status = 401 if self._authorized_as is None else 403
                self._json(status, {"error": "Access is restricted"}, "GatedRepo")
            else:
                self._json(401, {"error": "Repository not found"}, "RepoNotFound")
            return None
        return repo

    def _info(self, repo_id: str, revision: str) -> None:
        if (repo := self._open(repo_id)) is None:
            return
        revision = repo.branches.get(revision, revision)
        if (files := repo.revisions.get(revision)) is None:
            self._json(404, {"error": "Invalid rev id"}, "RevisionNotFound")
            return
        siblings = []
        for path, data in (files | repo.listed).items():
            sibling: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": "0" * 40}
            if path in repo.large:
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        self._json(
            200,
            {"_id": "1", "id": repo_id, "modelId": repo_id, "sha": revision, "siblings": siblings},
        )

    def _dataset(self, repo_id: str, what: str, revision: str, below: list[str]) -> None:
        if what == "revision":
            self._info(repo_id, revision)
        elif what == "tree":
            repo = self.served.repos.get(repo_id)
            files = repo.revisions.get(revision, {}) if repo else {}
            folder = "".join(f"{word}/" for word in below)
            self._listed(repo_id, revision, [path for path in files if path.startswith(folder)])
        else:
            self._json(404, {"error": "not here"}, "EntryNotFound")

    def _listed(self, repo_id: str, revision: str, paths: list[str]) -> None:
        if (repo := self._open(repo_id)) is None:
            return
        if (files := repo.revisions.get(revision)) is None:
            self._json(404, {"error": "Invalid rev id"}, "RevisionNotFound")
            return
        folders = {path.rpartition("/")[0] for path in files} - {""}
        found: list[dict[str, Any]] = [
            {"type": "directory", "path": path, "oid": "0" * 40}
            for path in paths
            if path in folders
        ]
        for path in paths:
            if path in files:
                oid = hashlib.sha1(files[path], usedforsecurity=False).hexdigest()
                found.append({"type": "file", "path": path, "size": len(files[path]), "oid": oid})
        self._json(200, found)

    def _resolve(self, repo_id: str, revision: str, path: str) -> None:
        if (repo := self._open(repo_id)) is None:
            return
        data = repo.revisions.get(revision, {}).get(path)
        if data is None:
            self._json(404, {"error": "Entry not found"}, "EntryNotFound")
            return
        if path not in repo.large:
            self._file(path, data, {"X-Repo-Commit": revision})
            return
        self.send_response(302)
        sha256 = hashlib.sha256(data).hexdigest()
        self.send_header("Location", f"{self.served.storage_url}/storage/{sha256}")
        self.send_header("X-Repo-Commit", revision)
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("X-Linked-Etag", f'"{sha256}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _storage(self, sha256: str) -> None:
        for repo in self.served.repos.values():
            for files in repo.revisions.values():
                for path, data in files.items():
                    if hashlib.sha256(data).hexdigest() == sha256:
                        self._file(path, data, {})
                        return
        self._json(404, {})

    def _modelscope(self, repo_id: str, words: list[str], query: dict[str, str]) -> None:
        repo = self.served.repos.get(repo_id)
        files = repo.revisions.get(query.get("Revision", "master")) if repo else None
        if repo is None or files is None:
            self._json(404, {"Code": 10010205001, "Message": "not found", "Success": False})
        elif repo.token is not None and self._authorized_as != repo.token:
            status = 401 if self._authorized_as is None else 403
            self._json(status, {"Code": status, "Message": "no access", "Success": False})
        elif words == ["repo", "files"]:
            listed = [
                {
                    "Name": path.rpartition("/")[2],
                    "Path": path,
                    "Type": "blob",
                    "Size": len(data),
                    "Sha256": hashlib.sha256(data).hexdigest(),
                }
                for path, data in (files | repo.listed).items()
            ]
            self._json(200, {"Code": 200, "Success": True, "Data": {"Files": listed}})
        elif words == ["repo"] and query.get("FilePath") in files:
            self._file(query["FilePath"], files[query["FilePath"]], {})
        else:
            self._json(404, {"Code": 404, "Message": "no such file", "Success": False})

    def _modelscope_info(self, repo_id: str) -> None:
        if repo_id in self.served.repos:
            owner, name = repo_id.split("/")
            data = {"id": repo_id, "path": repo_id, "owner": owner, "name": name}
            self._json(200, {"success": True, "data": data, "code": 200})
        else:
            self._json(404, {"success": False, "message": "not found", "code": 404})

    def _file(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        asked = self.headers.get("Range")
        start, end = 0, len(data)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(data)
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(
                Sent(path, start, self.headers["Host"], bool(self._authorized_as)), data[start:end]
            )

    def _send(self, sent: Sent, body: bytes) -> None:
        hub = self.served
        hub.sent.append(sent)
        for at in range(0, len(body), _CHUNK):
            if hub.drop_after is not None and sent.count >= hub.drop_after:
                hub.drop_after = None
                self.close_connection = True
                return
            if hub.stall_after is not None and sent.count >= hub.stall_after:
                hub.stalled.set()
                hub.go_on.wait(60)
            chunk = body[at : at + _CHUNK]
            self.wfile.write(chunk)
            self.wfile.flush()
            sent.count += len(chunk)
