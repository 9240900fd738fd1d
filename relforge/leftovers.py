"""Work on disk that must not outlive its maker: how it is named, locked, and known as left behind.

A folder or file of this kind is called ``<stem>-<pid>-<starttime>-<boot>-<random>``: its name says
who owns it. Its owner also holds a lock on it, which the kernel frees however the owner dies.
It counts as left behind only when both say so: the lock alone would race with an owner that has
just made it, the process id alone means nothing in another pid namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relforge import owner, proc
from relforge.errors import ExitCode, RelforgeError

REPLACED = ".replaced"
"""In an owned folder: what lay where its result goes, until the result is there."""
_NAME = re.compile(
    r"^(?P<stem>.+)-(?P<pid>\d+)-(?P<start>\d+)-(?P<boot>[0-9a-f]{8})-[a-z0-9_]+$", re.DOTALL
)
_MOUNTS = Path("/proc/self/mountinfo")
_UMOUNT_TIMEOUT_S = 30.0
_STARTING_S = 2.0
_ENDING_S = 5.0
_POLL_S = 0.002


def owned_prefix(stem: str) -> str:
    """The beginning of a name that says that this process owns it; a random part follows."""
    return f"{stem}-{owner.current().in_name}-"


@contextlib.contextmanager
def owned_folder(parent: Path, stem: str) -> Iterator[Path]:
    """A fresh 0700 folder in the existing ``parent``, locked, and removed on every way out.

    It may be renamed meanwhile: then it stays. Raises OSError when it cannot be made.
    """
    path = Path(tempfile.mkdtemp(prefix=owned_prefix(stem), dir=parent))  # mkdtemp makes it 0700
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        hold(lock)
        yield path
    finally:
        # Removed while still locked: nobody else can be at the same work.
        remove(path)
        os.close(lock)


def owned_file(parent: Path, stem: str) -> tuple[int, Path]:
    """A fresh, open, locked 0600 file in the existing ``parent``; the caller closes and removes it.

    Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=owned_prefix(stem), dir=parent)
    hold(descriptor)
    return descriptor, Path(name)


def hold(descriptor: int) -> None:
    """Locks an open file or folder for as long as it stays open; never waits."""
    # Some network file systems cannot lock a folder; the name then decides alone.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def held(path: Path) -> bool:
    """Whether anybody holds the file's or folder's lock. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _held_by_another(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def left_behind(path: Path) -> Iterator[bool]:
    """Whether *path* is owned work whose owner is gone; if so, it is ours while this is open."""
    named = _NAME.match(path.name)
    if named is None or path.is_symlink():
        yield False
        return
    if not owner.Owner(named["boot"], int(named["pid"]), int(named["start"])).gone:
        yield False
        return
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # another sweeper was faster, or it is not ours to read
        yield False
        return
    try:
        yield _ours_at_last(lock, path)
    finally:
        os.close(lock)


def sweep_files(parent: Path, prefix: str) -> list[Path]:
    """Removes the files of that ``prefix`` that killed owners left in *parent*; returns them.

    For folders of the user's: nothing else is looked at, and no folder is ever removed.
    """
    removed: list[Path] = []
    try:
        found = [Path(entry) for entry in os.scandir(parent) if entry.name.startswith(prefix)]
    except OSError:
        return removed
    for path in found:
        with contextlib.suppress(OSError), left_behind(path) as gone:
            if gone and stat.S_ISREG(path.lstat().st_mode):
                path.unlink()
                removed.append(path)
    return removed


def end_users(path: Path) -> bool:
    """Ends the gits that work for the dead owner of *path*; says whether none is left.

    Each child dies with its owner (``relforge/proc.py``), but for one that was just being started,
    and git's own helpers. Their environment names the folder, whose name is nobody else's.
    """
    deadline = time.monotonic() + _ENDING_S
    unseen = 0
    while unseen < 2:  # a process that is just becoming its program has no environment to look at
        users = _gits_of(path.name)
        unseen = 0 if users else unseen + 1
        for pid in users:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def sweep_folder(parent: Path, line: Callable[[str], None] = lambda _line: None) -> list[Path]:
    """Removes what killed owners left in *parent*; returns what is gone.

    A folder that was about to be replaced when its owner died goes back to its place. ``line``
    is told what cannot be removed, and why.
    """
    removed: list[Path] = []
    try:
        found = sorted(parent.iterdir())
    except OSError:
        return removed
    for path in found:
        with left_behind(path) as gone:
            if gone:
                end_users(path)
                _put_back(path)
                if remove(path, line):
                    removed.append(path)
    return removed


def remove(path: Path, line: Callable[[str], None] = lambda _line: None) -> bool:
    """Deletes a file or folder, never through a mount; says whether it is gone.

    What is mounted below it is unmounted first; where that fails nothing is deleted at all.
    """
    for point in reversed(_mounted_below(path)):
        with contextlib.suppress(RelforgeError):  # what is still mounted is seen below
            proc.run(
                ["umount", point],
                code=ExitCode.ENVIRONMENT,
                check=False,
                timeout_s=_UMOUNT_TIMEOUT_S,
            )
    if points := _mounted_below(path):
        line(f"warning: {path} stays: {points[0]} is mounted; unmount it, then delete the folder")
        return False
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        # A build or a checkout may leave folders without write permission.
        for folder, subfolders, _ in os.walk(path):
            for name in subfolders:
                below = Path(folder, name)
                if not below.is_symlink():
                    with contextlib.suppress(OSError):
                        below.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        line(f"warning: {path} cannot be removed; delete it by hand")
        return False
    return True


def _put_back(path: Path) -> None:
    named = _NAME.match(path.name)
    before = path / REPLACED
    if named is None or not before.is_dir() or not named["stem"].startswith("."):
        return
    place = path.with_name(named["stem"][1:])
    if not place.exists() and not place.is_symlink():
        with contextlib.suppress(OSError):
            before.rename(place)


def _gits_of(name: str) -> list[int]:
    """Processes with a variable of git's that names the folder, whatever stands before it."""
    found = []
    for pid in _processes():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        if any(one.startswith(b"GIT_") and os.fsencode(name) in one for one in variables):
            found.append(pid)
    return found


def _processes() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _ours_at_last(lock: int, path: Path) -> bool:
    """Locks what a dead owner left; a moment's patience where its lock only seems to be held.

    A child that the owner was just starting has the owner's lock until it becomes its program.
    """
    deadline = time.monotonic() + _STARTING_S
    while _held_by_another(lock):
        patient = time.monotonic() < deadline and _held_from_here(lock)
        if not patient and _held_by_another(lock):  # it may have been let go meanwhile
            return False
        time.sleep(_POLL_S)
    try:
        there = path.lstat()
    except OSError:  # another sweeper was faster
        return False
    return os.path.samestat(there, os.fstat(lock))


def _held_from_here(lock: int) -> bool:
    """Whether another process of this pid namespace has the very file or folder open.

    Its owner would be known by its id here; so it is a child of the owner's or another sweeper.
    Owners in other namespaces are not waited for.
    """
    wanted, here = os.fstat(lock), owner.pid_namespace()
    for pid in _processes():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    if os.path.samestat(descriptor.stat(), wanted):
                        return str(Path(f"/proc/{pid}/ns/pid").stat().st_ino) == here
    return False


def _held_by_another(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this file system: the name has already decided
    return False


def _mounted_below(path: Path) -> list[Path]:
    """Mount points at or below *path*, outer ones first (proc(5), mountinfo, field 5)."""
    top = path.parent.resolve() / path.name
    rows = _MOUNTS.read_bytes()
    if re.fullmatch(rb"[\w./+-]+", os.fsencode(top)) and os.fsencode(top) not in rows:
        return []  # the usual case, decided at once: on a host with many mounts the rest is slow
    found = []
    for row in rows.splitlines():
        # Blanks and backslashes stand there as three octal digits.
        name = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), row.split(b" ")[4])
        point = Path(os.fsdecode(name))
        if point == top or top in point.parents:
            found.append(point)
    return sorted(found)
