"""A program on a terminal of its own: what it shows is waited for, what a person types is sent."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_WAIT_S = 30.0
_RUN = "from relforge.cli import main; main()"


@dataclass
class Terminal:
    """A running ``relforge``; ``shown`` is everything that it showed so far."""

    pid: int
    fd: int
    shown: str = ""
    _seen: int = 0
    code: int | None = None

    def expect(self, pattern: str) -> None:
        """Waits until the pattern is shown, behind what was expected before."""
        deadline = time.monotonic() + _WAIT_S
        while (found := re.compile(pattern).search(self.shown, self._seen)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} is not in:\n{self.shown}"
            assert self._read(0.2), f"ended without {pattern!r}:\n{self.shown}"
        self._seen = found.end()

    def answer(self, question: str, text: str) -> None:
        """Types *text* and Enter once the question is shown."""
        self.expect(question)
        self.expect(r": ")
        os.write(self.fd, f"{text}\n".encode())

    def press(self, keys: bytes) -> None:
        """Presses keys as a person does: a moment after the question, when it is being read."""
        time.sleep(0.5)
        os.write(self.fd, keys)

    def end(self) -> int:
        """Waits for the end and returns the exit code."""
        deadline = time.monotonic() + _WAIT_S
        while self._read(0.2):
            assert time.monotonic() < deadline, f"does not end:\n{self.shown}"
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], wait_s)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


@contextmanager
def on_terminal(*words: str, cwd: Path, env: dict[str, str]) -> Iterator[Terminal]:
    """Runs ``relforge WORDS`` in *cwd* on a new terminal, which ends with this block."""
    pid, fd = pty.fork()
    if pid == 0:
        try:
            # What a shell starts in the background ignores Ctrl-C, and so does all that it starts.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(cwd)
            argv = [sys.executable, "-c", _RUN, *words]
            os.execve(sys.executable, argv, {**os.environ, "TERM": "dumb", **env})
        finally:
            os._exit(127)
    terminal = Terminal(pid, fd)
    try:
        yield terminal
    finally:
        if terminal.code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)
