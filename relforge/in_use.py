"""Who works with a home: any number of runs at once, or one that collects garbage, alone.

``<home>/locks/in-use`` is held shared by whoever relies on what the home holds, from before it
plans until it has ended, and exclusively by the collector. So nothing that a run has seen can go
while it works. Whoever holds it shared says so in a file of its own in ``<home>/locks/users``.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from relforge.cancel import CancelToken
from relforge.leftovers import held, owned_file, sweep_files
from relforge.locks import Holder, holder_of, locked, note

_STEM = "user"


@contextlib.contextmanager
def using(
    home: Path,
    purpose: str,
    *,
    on_wait: Callable[[str], None] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[None]:
    """Nothing of the home is collected while this is open; waits for a collector to end.

    Raises RelforgeError (ENVIRONMENT) within ``locks.not_waiting``, Cancelled. A home that cannot
    be written is used without a lock: nobody can work in it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = locked(
                _lock(home),
                fcntl.LOCK_SH,
                who=lambda: holder_of(_lock(home)),
                purpose=purpose,
                on_wait=on_wait,
                cancel=cancel,
            )
            stack.callback(os.close, descriptor)
            stack.enter_context(_noted(home, purpose))
        yield


@contextlib.contextmanager
def alone(
    home: Path,
    purpose: str,
    *,
    wait: bool,
    on_wait: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> Iterator[None]:
    """Nobody else uses the home while this is open.

    Raises RelforgeError (ENVIRONMENT) that says who does, unless it is to ``wait``; Cancelled.
    """
    descriptor = locked(
        _lock(home),
        fcntl.LOCK_EX,
        who=lambda: next(iter(users(home)), holder_of(_lock(home))),
        purpose=purpose,
        wait_s=math.inf if wait else 0.0,
        on_wait=on_wait,
        cancel=cancel,
    )
    try:
        sweep_files(_users(home), f"{_STEM}-")
        note(descriptor, purpose)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def users(home: Path) -> list[Holder]:
    """Whoever uses the home just now, those who began first at the beginning."""
    found = []
    with contextlib.suppress(OSError):
        for path in _users(home).glob(f"{_STEM}-*"):
            with contextlib.suppress(OSError, ValidationError):
                one = Holder.model_validate_json(path.read_bytes())
                if held(path):
                    found.append(one)
    return sorted(found, key=lambda one: one.since)


@contextlib.contextmanager
def _noted(home: Path, purpose: str) -> Iterator[None]:
    folder = _users(home)
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        # As open as the folder of the lock itself, whatever this user's umask says.
        folder.chmod(folder.parent.stat().st_mode & 0o7777)
    descriptor, path = owned_file(folder, _STEM)
    try:
        os.fchmod(descriptor, 0o644)
        note(descriptor, purpose)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(home: Path) -> Path:
    return home / "locks" / "in-use"


def _users(home: Path) -> Path:
    return home / "locks" / "users"
