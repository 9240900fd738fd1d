"""``python3 -m hello_server``: loads the model folder, then serves it over HTTP."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hello_server import __version__
from hello_server.model import Model
from hello_server.protocol import BadRequest, Reply, parse

_LARGEST_BODY = 1 << 20


class Server(ThreadingHTTPServer):
    """The model and its name, shared by all requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, model: Model, served_name: str) -> None:
        super().__init__(("0.0.0.0", port), Handler)  # noqa: S104 (made for a container)
        self.model = model
        self.served_name = served_name


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes; waiting for the first's acknowledgement costs 40 ms.
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        name = self.server.served_name
        card = {
            "id": name,
            "object": "model",
            "owned_by": "hello-server",
            "max_model_len": self.server.model.max_model_len,
        }
        if self.path == "/health":
            self._send(200, b"")
        elif self.path == "/version":
            self._json({"version": __version__})
        elif self.path == "/v1/models":
            self._json({"object": "list", "data": [card]})
        else:
            self._refuse(BadRequest(f"there is no {self.path}", 404))

    def do_POST(self) -> None:
        try:
            chat = self.path == "/v1/chat/completions"
            if not chat and self.path != "/v1/completions":
                raise BadRequest(f"there is no {self.path}", 404)
            request = parse(self._body(), chat=chat, served_name=self.server.served_name)
            reply = Reply(self.server.model, request, self.server.served_name)
        except BadRequest as error:
            self._refuse(error)
            return
        if request.stream:
            self._stream(reply)
        else:
            self._json(reply.whole())

    def log_message(self, format: str, *args: Any) -> None:
        sys.stderr.write(f"{self.client_address[0]} {format % args}\n")

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST_BODY:
            self.close_connection = True
            raise BadRequest("Content-Length is missing or too large")
        try:
            return json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise BadRequest(f"the request body is no JSON: {error}") from error

    def _stream(self, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in reply.events():
            self._event(json.dumps(event))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        raw = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    def _refuse(self, error: BadRequest) -> None:
        self._json(error.body(), error.status)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Ends with 0 on SIGTERM or Ctrl-C, with 1 and the reason when the model cannot be loaded."""
    parser = argparse.ArgumentParser(prog="hello_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with config.json")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-name", default="hello")
    options = parser.parse_args()
    try:
        model = Model.load(options.model)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {error} (model folder {options.model})")
    server = Server(options.port, model, options.served_name)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stderr.write(f"serving {options.served_name} on port {options.port}\n")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
