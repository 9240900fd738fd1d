"""HTTP for the board: who may ask, for what, and the stream of what happens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from relforge.board.page import policy
from relforge.board.serving import Message, Served
from relforge.errors import ExitCode, RelforgeError

HOST, PORT = "127.0.0.1", 8750
_IDLE_S = 30.0
_MOST_STREAMS = 50
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    # Details are scripts: pages of others must not load them.
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_EVIDENCE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""Evidence is looked at, and does nothing."""


def parse_address(text: str | None) -> tuple[str, int]:
    """``HOST:PORT``, ``HOST`` or ``PORT``; None: the loopback. Raises RelforgeError (USAGE)."""
    if text is None:
        return HOST, PORT
    if text.isdigit():
        host, port = HOST, text
    elif text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or str(PORT)
    else:
        host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", str(PORT))
    if host and port.isdigit() and int(port) < 1 << 16:
        return host, int(port)
    raise RelforgeError(
        f"{text!r} is no address to serve at",
        code=ExitCode.USAGE,
        hint="name HOST:PORT, such as 127.0.0.1:8750",
    )


class BoardServer(ThreadingHTTPServer):
    """Serves one board. A request for another host's name is refused, as is one from another site:
    a page elsewhere cannot read the board through the browser of somebody who may."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, served: Served, host: str, port: int) -> None:
        self.served = served
        self.asked_host = host
        self.streams = 0
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise RelforgeError(
                f"cannot serve at {host}:{port}",
                code=ExitCode.ENVIRONMENT,
                why=error.strerror or str(error),
                hint="name another one: relforge board --serve HOST:PORT",
            ) from error

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        host = str(self.server_address[0])
        return host.startswith("127.") or host == "::1"

    def answers_to(self, host: str, arrived_at: str) -> bool:
        """Whether a request's Host is a name of this server, or the address that it came to."""
        name = urlsplit(f"//{host}").hostname
        names = {"localhost", self.asked_host, arrived_at, socket.gethostname(), socket.getfqdn()}
        return name is not None and name.casefold() in {one.casefold() for one in names}

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: BoardServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    server_version = "relforge"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Requests are nobody's news."""

    def _answer(self, *, body: bool) -> None:
        arrived_at = str(self.connection.getsockname()[0])
        if not self.server.answers_to(self.headers.get("Host", ""), arrived_at):
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        _, _, path, query, _ = urlsplit(self.path)
        path = unquote(path).removeprefix("/")
        site = self.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and path != "":
            return self._refuse(HTTPStatus.FORBIDDEN)
        if path == "events" and body:
            # What a browser says when it comes back is newer than what the page was made with.
            after = self.headers.get("Last-Event-ID", "").strip() or _asked(query, "after")
            return self._stream(after)
        try:
            found = self.server.served.file(path)
        except OSError:
            found = None
        if found is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        data, media_type = found
        rules = _EVIDENCE_POLICY if path.startswith("evidence/") else policy(live=True)
        self._head(HTTPStatus.OK, media_type, len(data), rules)
        if body:
            self.wfile.write(data)
        return None

    def _stream(self, after: str | None) -> None:
        """Server-sent events until the page goes away; see ``Served.listen``."""
        if self.server.streams >= _MOST_STREAMS:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        self.server.streams += 1
        try:
            self.close_connection = True
            self._head(HTTPStatus.OK, "text/event-stream", None, policy(live=True))
            for message in self.server.served.listen(after):
                # A comment now and then: else nobody notices that the page is gone.
                self.wfile.write(_sent(message).encode() if message is not None else b":\n\n")
                self.wfile.flush()
        finally:
            self.server.streams -= 1
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        text = f"{status.phrase}\n".encode()
        self._head(status, "text/plain; charset=utf-8", len(text), _EVIDENCE_POLICY)
        if self.command != "HEAD":
            self.wfile.write(text)

    def _head(self, status: HTTPStatus, media_type: str, length: int | None, rules: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        for name, value in {**_HEADERS, "Content-Security-Policy": rules}.items():
            self.send_header(name, value)
        self.end_headers()


def _asked(query: str, name: str) -> str | None:
    return next(iter(parse_qs(query).get(name, ())), None)


def _sent(message: Message) -> str:
    at = f"id: {message.at}\n" if message.at is not None else ""
    return f"{at}event: {message.kind}\ndata: {message.data}\n\n"


def serve_until(server: BoardServer, wait: Callable[[], bool]) -> None:
    """Serves, and looks for what is new, until *wait* says that it is over. It waits a moment."""
    answering = threading.Thread(
        target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.2}
    )
    answering.start()
    try:
        while not wait():
            server.served.step()
    finally:
        server.served.close()
        server.shutdown()
        server.server_close()
        answering.join()
