"""A bash that is typed to, statement by statement, as a reader's terminal is."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from relforge import redact

_KEPT_BYTES = 1 << 20
_END_S = 3.0
_ARGV = ("bash", "--noprofile", "--norc", "-o", "pipefail")


@dataclass(frozen=True)
class Printed:
    """What a statement wrote so far, secrets redacted; each the last MiB."""

    stdout: str
    stderr: str


class Terminal:
    """One shell. Its variables and folder stay from statement to statement.

    A statement may enter another shell (``docker exec -it NAME bash``): what is typed next goes
    there. ``typed`` runs until ``ended`` says its exit status, or for as long as it likes.
    """

    def __init__(self, *, env: Mapping[str, str], folder: Path, before: Sequence[str] = ()) -> None:
        self._child = subprocess.Popen(
            (*before, *_ARGV),
            cwd=folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._out = _Stream(self._child.stdout)
        self._err = _Stream(self._child.stderr)
        self._mark = b""
        self._status: int | None = 0
        self.entered = False

    def type(self, text: str, *, enters: bool = False) -> None:
        """Types one statement. ``enters``: it is a shell that reads what is typed next."""
        assert not self.busy, "the statement before has not ended"
        self._status = None
        self._mark = f"relforge-{secrets.token_hex(8)}".encode()
        self._out.forget()
        self._err.forget()
        mark = self._mark.decode()
        # eval, so that a statement of several lines is read whole before anything of it runs;
        # nothing else may read what is typed.
        line = f"{text}\n" if enters else f"eval {shlex.quote(text)} </dev/null\n"
        told = f"printf '\\n%s %d\\n' {mark} \"$?\"; printf '\\n%s\\n' {mark} >&2\n"
        self.entered = self.entered or enters
        self._write((line + told).encode())

    @property
    def status(self) -> int | None:
        """The exit status of what was typed last; None while it runs."""
        if self._status is None:
            found = self._out.search(re.escape(self._mark) + rb" (\d+)\n")
            if found is not None and self._err.search(re.escape(self._mark) + rb"\n") is not None:
                self._status = int(found[1])
        return self._status

    @property
    def busy(self) -> bool:
        """Whether what was typed last still runs."""
        return self.status is None and not self.gone

    @property
    def gone(self) -> bool:
        """Whether the shell itself has ended."""
        if self._child.poll() is None:
            return False
        self._out.join()
        self._err.join()
        return self._status is None

    @property
    def exit_status(self) -> int | None:
        """Of the shell itself."""
        return self._child.poll()

    def printed(self) -> Printed:
        """What the statement has written."""
        return Printed(self._text(self._out), self._text(self._err))

    def close(self) -> None:
        """Ends the shell and all that it started."""
        with contextlib.suppress(OSError):
            assert self._child.stdin is not None
            self._child.stdin.close()
        for number, wait_s in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            if _wait(lambda: not _group_lives(self._child.pid), wait_s):
                break
        self._child.wait()
        self._out.join()
        self._err.join()

    def _write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        # A shell that is gone is seen by its end.
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(data)
            self._child.stdin.flush()

    def _text(self, stream: _Stream) -> str:
        data = stream.data().partition(b"\n" + self._mark)[0] if self._mark else stream.data()
        return redact.text(data.decode("utf-8", "replace"))


class _Stream:
    """A pipe that is read as fast as it is written."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="card output", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()

    def data(self) -> bytes:
        with self._lock:
            return bytes(self._kept)

    def search(self, pattern: bytes) -> re.Match[bytes] | None:
        with self._lock:
            return re.search(pattern, bytes(self._kept))

    def join(self) -> None:
        self._thread.join(_END_S)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._pipe.fileno(), 1 << 16):
                with self._lock:
                    self._kept += chunk
                    del self._kept[:-_KEPT_BYTES]
        with contextlib.suppress(OSError):
            self._pipe.close()


def _group_lives(group: int) -> bool:
    """Whether a process of the group is left that is no zombie."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[2]) == group and fields[0] not in (b"Z", b"X"):
                    return True
    return False


def _wait(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
