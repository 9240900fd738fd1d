"""Lock files: one process at a time, and whoever waits is told who holds it.

The lock is the kernel's (flock), freed however its holder dies. The file's content is a note for
people: process, user and host of the holder, what for, since when. It is removed on leaving; after
a kill it names a process that is gone, and is then not repeated.

A home may be shared by users of a host, and by hosts on a file system that carries flock between
them (NFS does). A lock file is as writable for others as the folder that it lies in; where it
cannot be written it is locked all the same, without a note.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import math
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from relforge import owner
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

_POLL_S = 0.1
_GRACE_S = 0.5
"""How long somebody who does not wait waits: a lock that is free in a moment is no other user."""
_never = False


class Holder(Frozen, defer_build=False):
    """Who holds a lock. ``owner`` is the process (``owner.py``), ``since`` in seconds UTC.

    Ready when it is loaded: who has a lock names itself in it at once, whatever user it is then.
    """

    pid: int
    host: str
    user: str
    owner: str
    purpose: str
    since: float

    @classmethod
    def me(cls, purpose: str) -> Holder:
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            user=_user(),
            owner=_own(os.getpid()),
            purpose=purpose,
            since=time.time(),
        )

    @property
    def gone(self) -> bool:
        """Whether it is of this host and has ended: a note that a kill left."""
        named = owner.Owner.parse(self.owner)
        return self.host == socket.gethostname() and named is not None and named.gone

    @property
    def is_me(self) -> bool:
        return self.owner == _own(os.getpid()) and self.host == socket.gethostname()

    @property
    def words(self) -> str:
        """``process 12 of user ci on host-2 (build of a release, for 30 s)``."""
        who = f"process {self.pid} of user {self.user}"
        if self.host != socket.gethostname():
            who += f" on {self.host}"
        purpose = f"{self.purpose}, " if self.purpose else ""
        return f"{who} ({purpose}for {max(0, time.time() - self.since):.0f} s)"


@contextlib.contextmanager
def not_waiting(refuse: bool = True) -> Iterator[None]:
    """While this is open, no lock of this process waits for another process: ``held_lock`` raises.

    Threads of this process still wait for each other.
    """
    global _never
    before, _never = _never, refuse
    try:
        yield
    finally:
        _never = before


@contextlib.contextmanager
def held_lock(
    path: Path,
    *,
    purpose: str = "",
    wait_s: float = math.inf,
    on_wait: Callable[[str], None] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[None]:
    """Holds an exclusive lock file; ``on_wait`` is told once who else holds it.

    The kernel frees the lock when its holder dies, however it dies. Works between threads as well,
    because each call opens the file anew. Raises RelforgeError (ENVIRONMENT) that says who holds
    it after ``wait_s`` seconds, or at once within ``not_waiting``; Cancelled.
    """
    descriptor = locked(
        path,
        fcntl.LOCK_EX,
        who=lambda: holder_of(path),
        purpose=purpose,
        wait_s=wait_s,
        on_wait=on_wait,
        cancel=cancel,
    )
    try:
        note(descriptor, purpose)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def locked(
    path: Path,
    kind: int,
    *,
    who: Callable[[], Holder | None],
    purpose: str = "",
    wait_s: float = math.inf,
    on_wait: Callable[[str], None] | None = None,
    cancel: CancelToken | None = None,
) -> int:
    """An open descriptor of the file, locked in that way; whoever closes it frees the lock.

    Raises what ``held_lock`` raises; OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    began, told = time.monotonic(), on_wait is None
    descriptor = _open(path)
    try:
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                waited = time.monotonic() - began
                holder = who()
                if waited >= wait_s or _refused(holder, waited):
                    raise _taken(path, purpose, holder) from None
                if not told and on_wait is not None:
                    on_wait(f"waiting: {_words(holder)} ({path.name})")
                    told = True
                if cancel is None:
                    time.sleep(_POLL_S)
                else:
                    cancel.sleep(_POLL_S)
                continue
            if _is_there(descriptor, path):
                return descriptor
            # Somebody deleted the file while this was waiting: others will lock a new one.
            gone, descriptor = descriptor, -1
            os.close(gone)
            descriptor = _open(path)
    except BaseException:
        if descriptor != -1:
            os.close(descriptor)
        raise


def note(descriptor: int, purpose: str) -> None:
    """Says in a locked file who holds it, where it can be written."""
    with contextlib.suppress(OSError):
        text = Holder.me(purpose).model_dump_json().encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)


def holder_of(path: Path) -> Holder | None:
    """Whom a lock file names; None where nobody is, or it is gone."""
    try:
        found = Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return None if found.gone else found


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        try:
            return os.open(path, os.O_RDWR)
        except PermissionError:
            return os.open(path, os.O_RDONLY)  # another user's: it can be locked all the same
        except FileNotFoundError:
            return _open(path)
    with contextlib.suppress(OSError):
        # Whoever may make files in the folder may write this one, whatever the umask says.
        shared = path.parent.stat().st_mode & 0o022
        os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o7777 | shared | shared << 1)
    return descriptor


def _is_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _refused(holder: Holder | None, waited_s: float) -> bool:
    if not _never or (holder is not None and holder.is_me):
        return False
    return waited_s >= _GRACE_S


def _words(holder: Holder | None) -> str:
    return f"{holder.words} holds it" if holder else "another process holds it"


def _taken(path: Path, purpose: str, holder: Holder | None) -> RelforgeError:
    return RelforgeError(
        f"{purpose}: another relforge works here" if purpose else "another relforge works here",
        code=ExitCode.ENVIRONMENT,
        where=str(path),
        why=_words(holder),
        hint="wait until it has ended, then run the same command again",
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return str(os.getuid())


@functools.lru_cache(maxsize=4)
def _own(pid: int) -> str:  # noqa: ARG001 (a fork is another process)
    return owner.current().text


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Whether the existing file is held by nobody; if so, it is held here while this is open.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield _is_there(descriptor, path)
    finally:
        os.close(descriptor)
