#!/usr/bin/env python3
"""An OpenAI-compatible server with faults to choose from, for tests of client, probes and smoke.

Standard library only, so that it also runs inside a container that has nothing but Python:
``python3 openai_server.py --port 8000 --fault dies-on-first-request``. In a test:
``with FakeServer(fault="not-json") as server: server.base_url``. A token is a character.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
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
    "other-version",
    "no-version",
    "status-500",
    "error-object",  # HTTP 200 with an error in it
    "not-json",
    "wrong-schema",
    "empty-choices",
    "empty-text",
    "wrong-text",
    "garbled-bytes",
    "garbled-signs",
    "garbled-loop",
    "garbled-tokenizer",
    "garbled-script",
    "garbled-guesses",  # sound signs that the model itself finds unlikely
    "no-finish-reason",
    "wrong-model",
    "hangs",
    "drips",  # one byte at a time, for ever
    "second-differs",  # greedy, and another text the second time
    "no-chat-template",
    "stop-ignored",
    "stop-included",
    "max-tokens-ignored",
    "max-tokens-miscounted",
    "no-usage",
    "logprobs-missing",
    "logprobs-nan",
    "logprobs-positive",
    "logprobs-not-greedy",
    "long-500",  # prompts of more than half of the context
    "long-cut",  # prompts are cut to half of the context
    "over-limit-cut",
    "over-limit-500",
    "malformed-200",
    "malformed-500",
    "crosstalk",  # requests at once get the answers of others
    "busy-500",  # more than four at once are refused
    "cancel-ignored",  # requests whose client is gone are worked off
    "cancel-leaks",  # and their place is never free again
    "worn-by-load",  # other texts once requests came at once
    "ignores-sigterm",
    "sigterm-exits-1",
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
VERSION = "1.2.3"
CONTEXT = 512
_TEXTS = {
    "empty-text": "",
    "wrong-text": "7",
    "garbled-bytes": "1\ufffd\ufffd",
    "garbled-signs": "!!!!!!!!",
}
_PROSE = "A library lends books to people. It keeps what they wrote for those who come later."
_GARBLE = {
    "garbled-loop": "the library of the " * 6,
    "garbled-tokenizer": "A\u0120library\u0120lends\u0120books",
    "garbled-script": "A \u0431\u0438\u0431\u043b\u0438\u043e \u56fe\u4e66\u9986 \u0e2b\u0e49\u0e2d\u0e07 lends books",  # noqa: E501
    "garbled-guesses": "A spoon under hats lends by the of a green between one many",
}


def answer_of(prompt: str) -> str:
    """The sum of the prompt's last line ``a+b=``; to anything else a sentence or two."""
    left, _, right = prompt.strip().splitlines()[-1].rstrip("=").partition("+")
    return str(int(left) + int(right)) if left.isdigit() and right.isdigit() else _PROSE


class _Refused(Exception):
    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.verbose:
            sys.stderr.write(f"{self.command} {self.path}\n")

    def do_GET(self) -> None:
        fault = self.server.fault
        if self.path == "/health":
            self._send(503 if fault == "never-ready" else 200, b"")
        elif self.path == "/version" and fault != "no-version":
            self._json({"version": "9.9.9" if fault == "other-version" else VERSION})
        elif self.path == "/metrics":
            self._send(200, self.server.metrics().encode())
        elif self.path == "/v1/models":
            name = "another" if fault == "wrong-model" else self.server.model
            card = {"id": name, "object": "model", "owned_by": "fake", "max_model_len": CONTEXT}
            self._json({"object": "list", "data": [card]})
        else:
            self._json({"error": {"message": "no such path", "code": 404}}, 404)

    def do_POST(self) -> None:
        fault = self.server.fault
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            body = json.loads(raw)
        except ValueError as error:
            status = {"malformed-200": 200, "malformed-500": 500}.get(fault, 400)
            self._json({"error": {"message": f"no JSON: {error}", "code": status}}, status)
            return
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
        else:
            try:
                with self.server.at_work() as others:
                    self._answer(body, others)
            except _Refused as refused:
                said = {"message": str(refused), "code": refused.status}
                self._json({"error": said}, refused.status)

    def _answer(self, body: dict[str, Any], others: int) -> None:
        if body["model"] != self.server.model:
            raise _Refused(f"The model `{body['model']}` does not exist.", 404)
        if others >= 4 and self.server.fault == "busy-500":
            raise _Refused("too many requests for this engine", 500)
        if body.get("stream"):
            self._stream(body)
            return
        written = self._written(body)
        time.sleep(self.server.busy_s)
        self._whole(body, written)

    def _written(self, body: dict[str, Any]) -> dict[str, Any]:
        """Text, finish reason, tokens of prompt and answer, and log-probabilities."""
        fault = self.server.fault
        chat = self.path.endswith("/chat/completions")
        if chat and fault == "no-chat-template":
            raise _Refused("default chat template is no longer allowed")
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        prompt_tokens = self._prompt_tokens(prompt, int(body["max_tokens"]))
        if fault == "crosstalk":
            prompt = self.server.others_prompt(prompt)
        text = _TEXTS.get(fault, answer_of(prompt))
        if text == _PROSE:
            text = _GARBLE.get(fault, text)
        if self.server.is_odd(prompt):
            text = text[::-1] + "1"
        limit = int(body["max_tokens"])
        finish: str | None = "stop"
        tokens = len(text) + 1
        for stop in body.get("stop") or []:
            at = text.find(stop)
            if at >= 0 and fault != "stop-ignored":
                text = text[: at + len(stop) * (fault == "stop-included")]
                tokens = len(text) + 1
        if body.get("ignore_eos"):
            text = "".join(itertools.islice(itertools.cycle(text or "0"), limit))
            tokens, finish = limit, "length"
        elif tokens > limit and fault != "max-tokens-ignored":
            text, tokens, finish = text[:limit], limit, "length"
        if fault == "max-tokens-miscounted":
            tokens += 1
        if fault == "no-finish-reason":
            finish = None
        echoed = prompt if body.get("echo") else ""
        logprobs = None
        if body.get("logprobs") and fault != "logprobs-missing":
            logprobs = self._logprobs(echoed, text)
        return {
            "text": echoed + text,
            "finish_reason": finish,
            "tokens": tokens,
            "prompt_tokens": prompt_tokens,
            "logprobs": logprobs,
        }

    def _prompt_tokens(self, prompt: str, max_tokens: int) -> int:
        fault = self.server.fault
        count = len(prompt)
        if fault in ("long-cut", "over-limit-cut"):
            count = min(count, CONTEXT // 2 if fault == "long-cut" else CONTEXT - max_tokens)
        if count > CONTEXT // 2 and fault == "long-500":
            raise _Refused("CUDA error: an illegal memory access was encountered", 500)
        if count + max_tokens > CONTEXT:
            status = 500 if fault == "over-limit-500" else 400
            raise _Refused(f"This model's maximum context length is {CONTEXT} tokens", status)
        return count

    def _logprobs(self, echoed: str, text: str) -> dict[str, Any]:
        fault = self.server.fault
        signs = list(echoed + text)
        value: float = {"logprobs-nan": float("nan"), "logprobs-positive": 0.5}.get(fault, -0.1)
        if fault == "garbled-guesses" and len(text) > 20:
            value = -7.5
        top = [{sign: value} for sign in signs]
        if fault == "logprobs-not-greedy":
            top = [{sign: -2.0, "x": -0.1} for sign in signs]
            value = -2.0
        values: list[float | None] = [value] * len(signs)
        if echoed:
            # The echoed text is what the model would say where it continues the sum rightly.
            question = echoed.partition("=")[0] + "="
            right = question + answer_of(question) + text
            values[0] = None
            top = [{right[at] if at < len(right) else "?": -0.1} for at in range(len(signs))]
        return {"tokens": signs, "token_logprobs": values, "top_logprobs": top}

    def _usage(self, written: dict[str, Any]) -> dict[str, Any] | None:
        if self.server.fault == "no-usage":
            return None
        return {"prompt_tokens": written["prompt_tokens"], "completion_tokens": written["tokens"]}

    def _whole(self, body: dict[str, Any], written: dict[str, Any]) -> None:
        choice: dict[str, Any] = {"index": 0, "finish_reason": written["finish_reason"]}
        if self.path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": written["text"]}
            if written["logprobs"]:
                given = written["logprobs"]
                content = [
                    {"token": token, "logprob": value}
                    for token, value in zip(given["tokens"], given["token_logprobs"], strict=True)
                ]
                choice["logprobs"] = {"content": content}
        else:
            choice["text"] = written["text"]
            choice["logprobs"] = written["logprobs"]
        choices = [] if self.server.fault == "empty-choices" else [choice]
        self.server.generated += written["tokens"]
        usage = self._usage(written)
        self._json({"id": "x", "model": body["model"], "choices": choices, "usage": usage})

    def _stream(self, body: dict[str, Any]) -> None:
        fault = self.server.fault
        written = self._written(body)
        text, finish = written["text"], written["finish_reason"]
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
        usage = self._usage(written)
        if fault != "stream-without-usage" and usage is not None:
            events.append({"id": "x", "choices": [], "usage": usage})
        for event in events:
            self._event(json.dumps(event))
            self.server.generated += 1
            if fault == "stream-breaks-off":
                self.connection.close()
                self.close_connection = True
                return
            time.sleep(self.server.piece_s)
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
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        except OSError:  # the client is gone
            self.close_connection = True
            if self.server.fault == "cancel-leaks":
                self.server.leaked += 1
            if self.server.fault not in ("cancel-ignored", "cancel-leaks"):
                raise

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
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], fault: Fault, model: str) -> None:
        super().__init__(address, _Handler)
        self.fault: Fault = fault
        self.model = model
        self.verbose = False
        self.as_program = False
        self.busy_s = 0.1 if fault in ("crosstalk", "busy-500", "worn-by-load") else 0.0
        self.piece_s = 0.002
        self.requests: list[dict[str, Any]] = []
        self.generated = 0
        self.running = 0
        self.leaked = 0
        self.most_at_once = 0
        self.closing = threading.Event()
        self.died = threading.Event()
        self._lock = threading.Lock()
        self._prompts: list[str] = []
        self._asked: dict[str, int] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that left is no news
            super().handle_error(request, client_address)

    def at_work(self) -> _AtWork:
        return _AtWork(self)

    def metrics(self) -> str:
        return (
            "# TYPE fake:running gauge\n"
            f'fake:running{{model="x"}} {self.running + self.leaked}\n'
            "# TYPE fake:generated_total counter\n"
            f'fake:generated_total{{model="x"}} {self.generated}\n'
        )

    def is_odd(self, prompt: str) -> bool:
        """Whether this answer is to differ from the first one to the same prompt."""
        with self._lock:
            self._asked[prompt] = asked = self._asked.get(prompt, 0) + 1
        if self.fault == "worn-by-load":
            return self.most_at_once > 1 and self.running < 2
        return self.fault == "second-differs" and asked > 1

    def others_prompt(self, prompt: str) -> str:
        """The prompt of another request that is in work, if there is one."""
        deadline = time.monotonic() + 0.05
        with self._lock:
            self._prompts.append(prompt)
        while time.monotonic() < deadline and self.running < 2:
            time.sleep(0.005)
        with self._lock:
            other = next((one for one in self._prompts if one != prompt), prompt)
            alone = self.running < 2
        return prompt if alone else other

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


class _AtWork:
    """Counts a request as in work; the number of others comes out of ``with``."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def __enter__(self) -> int:
        with self._server._lock:
            others = self._server.running
            self._server.running += 1
            self._server.most_at_once = max(self._server.most_at_once, self._server.running)
        return others

    def __exit__(self, *_: object) -> None:
        with self._server._lock:
            self._server.running -= 1


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


def _end_when_told(fault: Fault) -> None:
    """The kernel ignores SIGTERM for the first process of a container that does not handle it."""

    def end(*_: object) -> None:
        if fault != "ignores-sigterm":
            os._exit(1 if fault == "sigterm-exits-1" else 0)

    signal.signal(signal.SIGTERM, end)


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
    parser.add_argument("--hold", help="a file that is kept open, as a device's is")
    options = parser.parse_args()
    _end_when_told(options.fault)
    for line in options.log_line:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()
    if options.read:
        Path(options.read).read_bytes()
    held = Path(options.hold).open("rb") if options.hold else None  # noqa: SIM115
    time.sleep(options.start_s)
    if options.fault == "dies-at-start":
        sys.exit(options.exit_code)
    server = _Server(("0.0.0.0", options.port), options.fault, options.model)
    server.verbose = server.as_program = True
    sys.stderr.write(f"listening on {options.port}\n")
    sys.stderr.flush()
    server.serve_forever()
    if held is not None:
        held.close()


if __name__ == "__main__":
    main()
