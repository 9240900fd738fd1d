"""Private work areas: the only places where decrypted bytes may lie, and how they are swept.

An area is a 0700 folder ``<home>/work/<purpose>-<pid>-<starttime>-<boot>-<random>``. Its name says
who owns it (a process id alone is reused; with the start time and the boot id it is not), and its
owner holds a lock on the folder, which the kernel frees however the owner dies. ``sweep`` removes
an area only when both say that the owner is gone: the lock alone would race with an owner that has
just made its folder, the process id alone means nothing in another PID namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, write_atomic

OUTER_PREFIX = ".relforge-"
_OUTSIDE = ".outside"
_NAME = re.compile(r"^[a-z0-9-]+-(?P<pid>\d+)-(?P<start>\d+)-(?P<boot>[0-9a-f]{8})-[a-z0-9_]+$")
_PURPOSE = re.compile(r"^[a-z][a-z0-9-]*$")


@contextlib.contextmanager
def work_area(home: Path, purpose: str) -> Iterator[Path]:
    """A fresh 0700 folder below ``<home>/work``, removed on every way out.

    Raises RelforgeError (ENVIRONMENT) when it cannot be made.
    """
    if not _PURPOSE.match(purpose):
        raise ValueError(f"the purpose of a work area is a lower-case word, not {purpose!r}")
    pid = os.getpid()
    prefix = f"{purpose}-{pid}-{_start_time(pid)}-{_boot_id()}-"
    parent = home / "work"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        area = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mkdtemp makes it 0700
    except OSError as error:
        raise cannot_write(parent, error) from error
    lock = os.open(area, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems cannot lock a folder; the name then decides alone.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield area
    finally:
        # Removed while still locked: nobody else can be at the same work.
        _remove(area)
        os.close(lock)


@contextlib.contextmanager
def outer_area(area: Path, folder: Path) -> Iterator[Path]:
    """A 0700 folder inside *folder*, which belongs to *area* and is removed and swept with it.

    For results that must be renamed into *folder* and so be made on its file system. Raises
    RelforgeError (ENVIRONMENT).
    """
    path = folder / f"{OUTER_PREFIX}{area.name}"
    try:
        # Recorded first: a kill between the two lines leaves a record without a folder.
        write_atomic(area / _OUTSIDE, os.fsencode(path.absolute()), mode=0o600)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield path
    finally:
        _remove(path)


def sweep(home: Path) -> list[Path]:
    """Removes the work areas whose owner is gone (after a kill -9, a crash, a power cut).

    Returns what was removed. Safe beside running owners and other sweepers.
    """
    parent = home / "work"
    removed: list[Path] = []
    try:
        found = sorted(parent.iterdir())
    except FileNotFoundError:
        return removed
    for area in found:
        named = _NAME.match(area.name)
        if named is None or area.is_symlink() or not area.is_dir():
            continue
        if _owner_lives(int(named["pid"]), int(named["start"]), named["boot"]):
            continue
        try:
            lock = os.open(area, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            if not _held_by_another(lock):
                _remove_outside(area)
                if _remove(area):
                    removed.append(area)
        finally:
            os.close(lock)
    return removed


def _remove_outside(area: Path) -> None:
    try:
        path = Path(os.fsdecode((area / _OUTSIDE).read_bytes()))
    except OSError:
        return
    # The record is ours alone (0700), but a wrong one must never delete anything else.
    if path.name == f"{OUTER_PREFIX}{area.name}" and not path.is_symlink():
        _remove(path)


def _held_by_another(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this file system: the name has already decided
    return False


def _owner_lives(pid: int, start: int, boot: str) -> bool:
    return boot == _boot_id() and _start_time(pid) == start


def _start_time(pid: int) -> int:
    """A process's start in clock ticks since boot (field 22 of proc(5) stat); -1 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return -1
    # The second field is the program's name in parentheses and may hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


@lru_cache(maxsize=1)
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError as error:
        raise RelforgeError(
            "this machine does not say when it was started",
            code=ExitCode.ENVIRONMENT,
            where="/proc/sys/kernel/random/boot_id",
            why=str(error),
            hint="mount /proc; relforge runs on Linux",
        ) from error


def _remove(area: Path) -> bool:
    """Deletes an area; says whether it is gone."""
    shutil.rmtree(area, ignore_errors=True)
    if area.exists():
        # A build or a checkout may leave folders without write permission.
        for folder, subfolders, _ in os.walk(area):
            for name in subfolders:
                path = Path(folder, name)
                if not path.is_symlink():
                    with contextlib.suppress(OSError):
                        path.chmod(0o700)
        shutil.rmtree(area, ignore_errors=True)
    return not area.exists()
