"""A registry in memory that can what Debian's cannot: the referrers API, uploads that go on inside
a chunk, deleting by tag; and that can refuse chunks.

Follows the distribution specification 1.1; one repository's content is not seen by another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_INDEX = "application/vnd.oci.image.index.v1+json"


class FakeRegistry:
    """``chunks`` is False where it refuses PATCH, ``most`` the largest chunk in bytes; ``api`` says
    whether there is a referrers API.

    ``break_after``: the next chunk that is longer breaks off after so many bytes, which are kept.
    ``received`` counts the bytes of content that came.
    """

    def __init__(self, *, chunks: bool = True, api: bool = True, least: int = 0) -> None:
        self.chunks, self.api, self.least = chunks, api, least
        self.most: float = float("inf")
        self.break_after: int | None = None
        self.received = 0
        self.chunk_sizes: list[int] = []
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.uploads: dict[str, bytearray] = {}
        self.asked: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        outer = self

        class Handler(_Handler):
            served = outer

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        found = []
        for (repository, own), (kind, data) in sorted(self.manifests.items()):
            value = json.loads(data)
            if repository == name and (value.get("subject") or {}).get("digest") == digest:
                entry = {"mediaType": kind, "digest": own, "size": len(data)}
                if value.get("artifactType"):
                    entry["artifactType"] = value["artifactType"]
                found.append(entry)
        return found


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Broken connections are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FakeRegistry

    def answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.served.asked.append((self.command, self.path))
        routes = (
            (r"/v2/", self._root),
            (r"/v2/(.+)/blobs/uploads/", self._start),
            (r"/v2/(.+)/blobs/uploads/(\w+)", self._upload),
            (r"/v2/(.+)/blobs/(sha256:\w+)", self._blob),
            (r"/v2/(.+)/manifests/(.+)", self._manifest),
            (r"/v2/(.+)/tags/list", self._tags),
            (r"/v2/(.+)/referrers/(.+)", self._referrers),
        )
        for pattern, route in routes:
            if found := re.fullmatch(pattern, parts.path):
                with self.served.lock:
                    route(*found.groups())
                return
        self._say(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def _root(self) -> None:
        self._say(200)

    def _start(self, name: str) -> None:
        own = self.served
        mounted = own.blobs.get((self.query.get("from", ""), self.query.get("mount", "")))
        if mounted is not None:
            own.blobs[name, self.query["mount"]] = mounted
            self._say(201)
            return
        upload = f"u{len(own.uploads)}"
        own.uploads[upload] = bytearray()
        more = {"OCI-Chunk-Min-Length": str(own.least)} if own.least else {}
        self._say(202, {"Location": f"/v2/{name}/blobs/uploads/{upload}", **more})

    def _upload(self, name: str, upload: str) -> None:
        own = self.served
        have = own.uploads.get(upload)
        if have is None:
            self._body()
            self._say(404)
            return
        place = {"Location": f"/v2/{name}/blobs/uploads/{upload}"}
        if self.command == "PATCH":
            if not own.chunks:
                self._body()
                self._say(405)
                return
            if int(self.headers["Content-Length"]) > own.most:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._say(413)
                return
            start = int(self.headers["Content-Range"].split("-")[0])
            if start != len(have):
                self._body()
                self._say(416, {**place, "Range": f"0-{max(0, len(have) - 1)}"})
                return
            if own.break_after is not None and own.break_after < int(
                self.headers["Content-Length"]
            ):
                have += self.rfile.read(own.break_after)
                own.received += own.break_after
                own.break_after = None
                self.connection.close()
                self.close_connection = True
                return
            data = self._body()
            own.chunk_sizes.append(len(data))
            have += data
        if self.command == "PUT":
            have += self._body()
            found = f"sha256:{hashlib.sha256(have).hexdigest()}"
            if found != self.query["digest"]:
                del own.uploads[upload]
                self._say(400, data=b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
                return
            own.blobs[name, found] = bytes(have)
            del own.uploads[upload]
            self._say(201, {"Docker-Content-Digest": found})
            return
        status = 202 if self.command == "PATCH" else 204
        self._say(status, {**place, "Range": f"0-{max(0, len(have) - 1)}"})

    def _blob(self, name: str, digest: str) -> None:
        data = self.served.blobs.get((name, digest))
        if data is None:
            self._say(404)
        else:
            self._say(200, data=data)

    def _manifest(self, name: str, reference: str) -> None:
        own = self.served
        if self.command == "PUT":
            data = self._body()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            own.manifests[name, digest] = (self.headers["Content-Type"], data)
            if reference != digest:
                own.tags[name, reference] = digest
            subject = (json.loads(data).get("subject") or {}).get("digest")
            more = {"OCI-Subject": subject} if subject and own.api else {}
            self._say(201, {"Docker-Content-Digest": digest, **more})
            return
        digest = own.tags.get((name, reference), reference)
        found = own.manifests.get((name, digest))
        if found is None:
            self._say(404)
        elif self.command == "DELETE":
            if reference == digest:
                del own.manifests[name, digest]
            else:
                del own.tags[name, reference]
            self._say(202)
        else:
            self._say(200, {"Content-Type": found[0]}, found[1])

    def _tags(self, name: str) -> None:
        tags = sorted(tag for repository, tag in self.served.tags if repository == name)
        self._say(200, data=json.dumps({"name": name, "tags": tags}).encode())

    def _referrers(self, name: str, digest: str) -> None:
        if not self.served.api:
            self._say(404)
            return
        # One a page, so that the client has to follow.
        found = self.served.referrers(name, digest)
        at = int(self.query.get("at", "0"))
        link = f'</v2/{name}/referrers/{digest}?at={at + 1}>; rel="next"'
        more = {"Link": link} if at + 1 < len(found) else {}
        value = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": found[at : at + 1]}
        self._say(200, {"Content-Type": _INDEX, **more}, json.dumps(value).encode())

    def _body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/blobs/" in self.path:
            self.served.received += len(data)
        return data

    def _say(self, status: int, headers: dict[str, str] | None = None, data: bytes = b"") -> None:
        with contextlib.suppress(OSError):
            self.send_response_only(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
