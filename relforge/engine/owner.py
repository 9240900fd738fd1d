"""Who owns a container: a process of this boot, named so that nobody else can be taken for it.

A process id alone is reused by the kernel; together with the boot and the process's start time
(clock ticks since boot, field 22 of /proc/PID/stat, proc(5)) it is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Owner:
    """``start_ticks`` counts from boot; ``text`` is the value of the container's label."""

    boot_id: str
    pid: int
    start_ticks: int

    @property
    def text(self) -> str:
        return f"{self.boot_id}:{self.pid}:{self.start_ticks}"

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that a label names, or None when it is none of ours."""
        parts = text.split(":")
        if len(parts) != 3 or not parts[1].isdigit() or not parts[2].isdigit():
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]))

    @property
    def of_this_boot(self) -> bool:
        return self.boot_id == boot_id()

    @property
    def alive(self) -> bool:
        """Whether the very process still runs. Only meaningful for an owner of this boot."""
        return start_ticks(self.pid) == self.start_ticks


def current() -> Owner:
    """This process."""
    pid = os.getpid()
    ticks = start_ticks(pid)
    if ticks is None:
        raise RuntimeError("/proc is not mounted: processes cannot be told apart")
    return Owner(boot_id(), pid, ticks)


def boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def pid_namespace() -> str:
    """The inode of this process's pid namespace: ids from another one mean nothing here."""
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def start_ticks(pid: int) -> int | None:
    """When the process started, or None when it does not run (zombies count as gone)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])
