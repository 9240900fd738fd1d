"""The worker as seen from outside: it is asked, and replaced when it dies, hangs or is spoiled."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from relforge.tuning.asking import Asked, Found
from relforge.tuning.bare.worker import SPOILED


class Unfit(Exception):
    """The worker cannot start here; the text says why."""


class Worker:
    """One process at a time; ``with`` ends it."""

    def __init__(self, options: Sequence[str], *, timeout_s: float) -> None:
        self.argv = [sys.executable, "-m", "relforge.tuning.bare.worker", *options]
        self.timeout_s = timeout_s
        self._running: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def hello(self) -> dict[str, Any]:
        """What the worker evaluates, and its operators. Raises Unfit."""
        return self._start()

    def used(self) -> tuple[list[str], str]:
        """Operators that were seen at work, and what kept more from being seen."""
        answer = self._ask("used")
        return answer.get("used", []), answer.get("ended") or answer.get("reason", "")

    def evaluate(self, asked: Asked) -> Found:
        """A verdict: what kills the process, or takes longer than it may, fails."""
        started = time.monotonic()
        answer = self._ask(
            {"disabled": sorted(asked.disabled), "part": asked.part, "level": asked.level}
        )
        if answer[SPOILED]:
            answer |= {
                "outcome": "fail",
                "reason": f"{answer['reason']}; it left native torch computing otherwise",
            }
        seconds = time.monotonic() - started
        return Found(answer["outcome"], answer["reason"], n=answer["n"], seconds=seconds)

    def _ask(self, request: object) -> dict[str, Any]:
        if self._running is None:
            self._start()
        assert self._running is not None
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(json.dumps(request).encode() + b"\n")
            answer = self._read(self.timeout_s)
        except (EOFError, TimeoutError) as ended:
            self._end()
            return {"outcome": "fail", "reason": f"the process {ended}", "n": 0, SPOILED: False}
        if answer[SPOILED]:
            self._end()
        return answer

    def _start(self) -> dict[str, Any]:
        self._rest = b""
        self._running = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        try:
            found = self._read(self.timeout_s)
        except (EOFError, TimeoutError) as ended:
            self._end()
            raise Unfit(f"the computing process {ended} before it was ready") from ended
        if "unfit" in found:
            self._end()
            raise Unfit(found["unfit"])
        return found

    def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._running is not None
        assert self._running.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._running.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    raise TimeoutError(f"did not answer within {timeout_s:g} s")
                piece = self._running.stdout.read(1 << 16)
                if not piece:
                    raise EOFError(f"ended with exit status {self._running.wait()}")
                self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.kill()
        running.wait()
        for stream in (running.stdin, running.stdout):
            if stream is not None:
                stream.close()
