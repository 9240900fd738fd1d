"""The one wrapper around child processes: argv lists, no shell, redacted, stopped with us."""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from relforge import redact
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError

Argv = Sequence[str | Path]
_POLL_S = 0.2
_GRACE_S = 5.0
_TAIL_LINES = 15


@dataclass(frozen=True)
class Done:
    """A finished process. ``seconds`` is wall time."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """stdout as text, without the final newline."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")


def shown(argv: Argv) -> str:
    """The command as a person could paste it into a shell, secrets redacted."""
    return redact.text(shlex.join(str(a) for a in argv))


@lru_cache(maxsize=1)
def dying_with_us() -> tuple[str, ...]:
    """What stands before a program's words so that it ends with this process, however that ends."""
    # A child must not outlive a relforge that was killed with SIGKILL; only the kernel can see to
    # that. setpriv (util-linux) sets the signal after fork, which is safe with threads.
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL", "--") if found else ()


def run(
    argv: Argv,
    *,
    code: ExitCode,
    what: str | None = None,
    hint: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | IO[bytes] | None = None,
    umask: int = -1,
    timeout_s: float | None = None,
    check: bool = True,
    cancel: CancelToken | None = None,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> Done:
    """Runs *argv* to its end and returns what it wrote.

    ``env`` is added to the environment; ``umask`` -1 is this process's own. ``on_line`` gets every
    line of stdout and stderr while the process runs (redacted). ``code`` is the exit code of the
    error raised when the process cannot be started, fails (with ``check``) or exceeds
    ``timeout_s``. ``log`` names the file shown in that error. The child runs in a process group of
    its own, which is ended on every way out.
    """
    words = tuple(str(a) for a in argv)
    started = time.monotonic()
    full_env = {**os.environ, **env} if env else None
    try:
        child = subprocess.Popen(
            (*dying_with_us(), *words),
            cwd=cwd,
            env=full_env,
            stdin=subprocess.PIPE if isinstance(stdin, bytes) else (stdin or subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=umask,
        )
    except FileNotFoundError as error:
        raise _not_found(words, cwd, code, hint) from error
    try:
        out, err = _pump(
            child, stdin if isinstance(stdin, bytes) else None, timeout_s, cancel, on_line
        )
    except TimeoutError as error:
        _end_group(child)
        raise RelforgeError(
            f"{Path(words[0]).name} did not finish within {timeout_s:g} s",
            code=code,
            where=shown(words),
            hint=hint,
        ) from error
    except BaseException:
        _end_group(child)
        raise
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                pipe.close()
    done = Done(words, child.wait(), out, err, time.monotonic() - started)
    if _started_nothing(done, words):
        raise _not_found(words, cwd, code, hint)
    if check and done.returncode != 0:
        raise failure(done, code=code, what=what, hint=hint, log=log)
    return done


def failure(
    done: Done,
    *,
    code: ExitCode,
    what: str | None = None,
    hint: str | None = None,
    log: Path | None = None,
) -> RelforgeError:
    """The error for a process that ended with a non-zero status: its last lines are the reason."""
    tail = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return RelforgeError(
        what or f"{Path(done.argv[0]).name} failed with exit status {done.returncode}",
        code=code,
        where=shown(done.argv),
        why=redact.text("\n".join(tail[-_TAIL_LINES:])) or f"exit status {done.returncode}",
        hint=hint,
        log=str(log) if log else None,
    )


def _not_found(
    words: tuple[str, ...], cwd: Path | None, code: ExitCode, hint: str | None
) -> RelforgeError:
    if cwd is not None and not cwd.is_dir():
        return RelforgeError(f"the folder {cwd} does not exist", code=code, where=shown(words))
    return RelforgeError(
        f"the program {words[0]} was not found",
        code=code,
        where=shown(words),
        why="it is not on PATH",
        hint=hint or f"install {Path(words[0]).name}, or put it on PATH",
    )


def _started_nothing(done: Done, words: tuple[str, ...]) -> bool:
    # setpriv reports a missing program with status 127.
    return (
        done.returncode == 127
        and bool(dying_with_us())
        and shutil.which(words[0]) is None
        and done.stderr.startswith(b"setpriv:")
    )


def _pump(
    child: subprocess.Popen[bytes],
    stdin: bytes | None,
    timeout_s: float | None,
    cancel: CancelToken | None,
    on_line: Callable[[str], None] | None,
) -> tuple[bytes, bytes]:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    collected = {"out": bytearray(), "err": bytearray()}
    partial = {"out": b"", "err": b""}
    pending = memoryview(stdin) if stdin is not None else None
    with selectors.DefaultSelector() as selector:
        assert child.stdout is not None
        assert child.stderr is not None
        selector.register(child.stdout, selectors.EVENT_READ, "out")
        selector.register(child.stderr, selectors.EVENT_READ, "err")
        if pending is not None and child.stdin is not None:
            # A blocking write would wait for a child that itself waits for its output to be read.
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE, "in")
        while selector.get_map():
            if cancel is not None and cancel.cancelled:
                raise Cancelled(cancel.reason)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
            for ready, _ in selector.select(_POLL_S):
                if ready.data == "in":
                    assert child.stdin is not None
                    assert pending is not None
                    try:
                        written = os.write(ready.fd, pending[:65536])
                        pending = pending[written:]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        pending = pending[len(pending) :]
                    if not pending:
                        selector.unregister(child.stdin)
                        child.stdin.close()
                    continue
                chunk = os.read(ready.fd, 65536)
                if not chunk:
                    selector.unregister(ready.fileobj)
                    continue
                collected[ready.data] += chunk
                if on_line is not None:
                    *lines, partial[ready.data] = (partial[ready.data] + chunk).split(b"\n")
                    for line in lines:
                        on_line(redact.text(line.decode("utf-8", "replace").rstrip("\r")))
    if on_line is not None:
        for rest in partial.values():
            if rest:
                on_line(redact.text(rest.decode("utf-8", "replace")))
    return bytes(collected["out"]), bytes(collected["err"])


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the child's process group, SIGKILL after a grace period."""
    for sig, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, sig)
        except ProcessLookupError:
            return
        try:
            child.wait(wait_s)
        except subprocess.TimeoutExpired:
            continue
