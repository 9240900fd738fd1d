#!/usr/bin/env python3
"""An OpenAI-compatible server with faults to choose from, for tests of client, probes and smoke.

Standard library only, so that it also runs inside a container that has nothing but Python:
``python3 openai_server.py --port 8000 --fault dies-on-first-request``. In a test:
``with FakeServer(fault="not-json") as server: server.base_url``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

Fault = Literal[
    "none",
    "dies-at-start",  # as a program: ends with --exit-code before it listens
    "never-ready",  # /health is 503 for ever
    "dies-on-first-request",
    "status-500",
    "error-object",  # HTTP 200 with an error in it
    "not-json",
    "wrong-schema",
    "empty-choices",
    "empty-text",
    "wrong-text",
    "garbled-bytes",
    "garbled-signs",
    "no-finish-reason",
    "wrong-model",
    "hangs",
    "drips",  # one byte at a time, for ever
    "stream-without-done",
    "stream-other-text",
    "stream-without-usage",
    "stream-without-finish",
    "stream-text-after-finish",
    "stream-event-after-done",
    "stream-breaks-off",
    "stream-error-event",
]
DIED_LINE = "RuntimeError: the engine died of a request"


def answer_of(prompt: str) -> str:
    """The sum of the prompt's last line ``a+b=``; what every clean answer says."""
    left, _, right = prompt.strip().splitlines()[-1].rstrip("=").partition("+")
    return str(int(left) + int(right)) if left.isdigit() and right.isdigit() else "hm"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.verbose:
            sys.stderr.write(f"{self.command} {self.path}\n")

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(503 if self.server.fault == "never-ready" else 200, b"")
        elif self.path == "/v1/models":
            name = "another" if self.server.fault == "wrong-model" else self.server.model
            self._json({"object": "list", "data": [{"id": name, "object": "model"}]})
        else:
            self._json({"error": {"message": "no such path", "code": 404}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.fault
        self.server.requests.append(body)
        if fault == "dies-on-first-request":
            self.server.die(self)
        elif fault == "hangs":
            self.server.closing.wait(60)
            self.close_connection = True
        elif fault == "drips":
            self._drip()
        elif fault == "status-500":
            self._json({"error": {"message": "internal trouble", "code": 500}}, 500)
        elif fault == "error-object":
            self._json({"error": {"message": "EngineCore encountered an issue", "code": 500}})
        elif fault == "not-json":
            self._send(200, b"<html><body>It works!</body></html>", "text/html")
        elif fault == "wrong-schema":
            self._json({"result": "124"})
        elif body["model"] != self.server.model:
            missing = f"The model `{body['model']}` does not exist."
            self._json({"error": {"message": missing, "code": 404}}, 404)
        elif body.get("stream"):
            self._stream(body)
        else:
            self._whole(body)

    def _text(self, body: dict[str, Any]) -> tuple[str, str | None, int]:
        chat = self.path.endswith("/chat/completions")
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        changed = {
            "empty-text": "",
            "wrong-text": "7",
            "garbled-bytes": "1\ufffd\ufffd",
            "garbled-signs": "!!!!!!!!",
        }
        text = changed.get(self.server.fault, answer_of(prompt))
        finish = None if self.server.fault == "no-finish-reason" else "stop"
        return text, finish, len(text) + 1

    def _whole(self, body: dict[str, Any]) -> None:
        text, finish, tokens = self._text(body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self.path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        choices = [] if self.server.fault == "empty-choices" else [choice]
        usage = {"prompt_tokens": 6, "completion_tokens": tokens, "total_tokens": 6 + tokens}
        self._json({"id": "x", "model": body["model"], "choices": choices, "usage": usage})

    def _stream(self, body: dict[str, Any]) -> None:
        fault = self.server.fault
        text, finish, tokens = self._text(body)
        if fault == "stream-other-text":
            text = text[::-1] + "0"
        if fault == "stream-without-finish":
            finish = None
        self._begin_stream()
        events: list[Any] = [_piece(sign, None) for sign in text]
        events.append(_piece("", finish))
        if fault == "stream-text-after-finish":
            events.append(_piece("9", None))
        if fault == "stream-error-event":
            events[1:] = [{"error": {"message": "EngineCore encountered an issue", "code": 500}}]
        if fault != "stream-without-usage":
            usage = {"prompt_tokens": 6, "completion_tokens": tokens}
            events.append({"id": "x", "choices": [], "usage": usage})
        for event in events:
            self._event(json.dumps(event))
            if fault == "stream-breaks-off":
                self.connection.close()
                self.close_connection = True
                return
            time.sleep(self.server.pause_s)
        if fault != "stream-without-done":
            self._event("[DONE]")
        if fault == "stream-event-after-done":
            self._event(json.dumps(_piece("9", None)))
        self.wfile.write(b"0\r\n\r\n")

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _event(self, data: str) -> None:
        raw = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    def _drip(self) -> None:
        self._begin_stream()
        while not self.server.closing.wait(0.02):
            try:
                self.wfile.write(b"1\r\n \r\n")
            except OSError:
                break
        self.close_connection = True

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _piece(text: str, finish: str | None) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], fault: Fault, model: str) -> None:
        super().__init__(address, _Handler)
        self.fault: Fault = fault
        self.model = model
        self.pause_s = 0.0
        self.verbose = False
        self.as_program = False
        self.requests: list[dict[str, Any]] = []
        self.closing = threading.Event()
        self.died = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that left is no news
            super().handle_error(request, client_address)

    def die(self, handler: _Handler) -> None:
        """Ends the way an engine does that a request killed: without an answer."""
        if self.as_program:
            sys.stderr.write(DIED_LINE + "\n")
            sys.stderr.flush()
            os._exit(1)
        self.died.set()
        handler.close_connection = True
        handler.connection.close()
        threading.Thread(target=self.shutdown, daemon=True).start()


class FakeServer:
    """The server in a thread of the test, on a free port of 127.0.0.1."""

    def __init__(self, fault: Fault = "none", model: str = "tiny") -> None:
        self._server = _Server(("127.0.0.1", 0), fault, model)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.requests = self._server.requests
        self.died = self._server.died

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.closing.set()
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    """The server as a program; prints one line when it listens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--fault", choices=get_args(Fault), default="none")
    parser.add_argument("--exit-code", type=int, default=1)
    parser.add_argument("--start-s", type=float, default=0.0, help="seconds before it listens")
    parser.add_argument("--log-line", action="append", default=[], help="written first")
    parser.add_argument("--read", help="a file that must be readable, as weights must")
    options = parser.parse_args()
    for line in options.log_line:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()
    if options.read:
        Path(options.read).read_bytes()
    time.sleep(options.start_s)
    if options.fault == "dies-at-start":
        sys.exit(options.exit_code)
    server = _Server(("0.0.0.0", options.port), options.fault, options.model)
    server.verbose = server.as_program = True
    sys.stderr.write(f"listening on {options.port}\n")
    sys.stderr.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
