"""Who owns what must not outlive its maker: a process, told apart from every other one.

A process id alone is reused by the kernel; together with the boot and the process's start time
(clock ticks since boot, field 22 of /proc/PID/stat, proc(5)) it is not. A container carries its
owner as a label, a run in a file, a work folder in its name (``relforge/leftovers.py``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SHORT_BOOT = 8


@dataclass(frozen=True)
class Owner:
    """``start_ticks`` counts from boot; ``boot_id`` may be a beginning of the whole id."""

    boot_id: str
    pid: int
    start_ticks: int

    @property
    def text(self) -> str:
        """The value of a container's label, and what a run keeps."""
        return f"{self.boot_id}:{self.pid}:{self.start_ticks}"

    @property
    def in_name(self) -> str:
        """The owner as part of a file name, with the boot id shortened."""
        return f"{self.pid}-{self.start_ticks}-{self.boot_id[:_SHORT_BOOT]}"

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that a label names, or None when it is none of ours."""
        parts = text.split(":")
        if len(parts) != 3 or not parts[1].isdigit() or not parts[2].isdigit():
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]))

    @property
    def of_this_boot(self) -> bool:
        return len(self.boot_id) >= _SHORT_BOOT and boot_id().startswith(self.boot_id)

    @property
    def alive(self) -> bool:
        """Whether the very process still runs. Only meaningful for an owner of this boot."""
        return start_ticks(self.pid) == self.start_ticks

    @property
    def gone(self) -> bool:
        """Whether this machine runs no such process: it has ended, or the machine was restarted.

        An owner in another pid namespace looks gone from here; a lock has to tell.
        """
        return not (self.of_this_boot and self.alive)


def current() -> Owner:
    """This process. Raises RelforgeError (ENVIRONMENT) where /proc is not mounted."""
    pid = os.getpid()
    ticks = start_ticks(pid)
    if ticks is None:
        raise _no_proc("its own process is not listed there", f"/proc/{pid}/stat")
    return Owner(boot_id(), pid, ticks)


def boot_id() -> str:
    """The kernel's id of this boot. Raises RelforgeError (ENVIRONMENT)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError as error:
        raise _no_proc(str(error), str(_BOOT_ID)) from error


def pid_namespace() -> str:
    """The inode of this process's pid namespace: ids from another one mean nothing here."""
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def start_ticks(pid: int) -> int | None:
    """When the process started, or None when it does not run (zombies count as gone)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _no_proc(why: str, where: str) -> RelforgeError:
    return RelforgeError(
        "this machine does not tell its processes apart",
        code=ExitCode.ENVIRONMENT,
        where=where,
        why=why,
        hint="mount /proc; relforge runs on Linux",
    )
