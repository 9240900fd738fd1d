"""One worker at a time on one thing: an advisory file lock that says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relforge.stage import CancelToken

_POLL_S = 0.1


@contextlib.contextmanager
def hold(
    path: Path, *, ctx_line: Callable[[str], None], cancel: CancelToken | None = None
) -> Iterator[None]:
    """Holds the lock file *path* exclusively; waits for another holder, and says so once.

    The kernel drops the lock with the process, so a killed run leaves none behind. Works between
    threads as well, because each call opens the file anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    file.seek(0)
                    ctx_line(f"waiting for process {file.read().strip() or '?'} ({path.name})")
                    told = True
                if cancel is None:
                    time.sleep(_POLL_S)
                else:
                    cancel.sleep(_POLL_S)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
