"""A server of completions for evaluations: what it says is a function of what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | dict[str, Any] | tuple[int, bytes]
"""A text, a whole body, or a status with the bytes of a body."""


class CompletionsServer(ThreadingHTTPServer):
    """Completions and chat; ``requests`` has every body with its ``path``."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CompletionsServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body["path"] = self.path
        self.server.requests.append(body)
        reply = self.server.reply(body)
        if isinstance(reply, str):
            reply = said(reply, chat="messages" in body)
        if isinstance(reply, dict):
            reply = 200, json.dumps(reply).encode()
        status, data = reply
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def said(text: str | None, *, chat: bool = False, finish: str | None = "stop") -> dict[str, Any]:
    """The body of an answer."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    return {"choices": [choice | ({"message": {"content": text}} if chat else {"text": text})]}


def likelihoods(body: dict[str, Any], of: Callable[[str], float]) -> dict[str, Any]:
    """An echoed prompt whose signs are its tokens, each as likely as ``of`` says of the prompt."""
    (tokens,) = body["prompt"]
    each = of("".join(map(chr, tokens)))
    # The first token follows nothing; the last is the one that was generated.
    given = [None, *[each] * len(tokens)]
    tops = [None, *[{"x": 0.0}] * len(tokens)]
    logprobs = {"token_logprobs": given, "top_logprobs": tops}
    return {"choices": [{"index": 0, "text": "", "logprobs": logprobs, "finish_reason": "length"}]}


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Reply]) -> Iterator[CompletionsServer]:
    with CompletionsServer(reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
