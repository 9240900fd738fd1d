"""Sets the times of everything below the named folders, and of all else that this step wrote.

They become one fixed time.

The same files then give the same layer, whenever they were written. The time is not that of any
source: a newer source must not change the layers that do not depend on it. Mounted folders are
not part of the layer and are left alone.
"""

from __future__ import annotations

import os
import sys

EPOCH_S = 315_532_800  # 1980-01-01, the earliest time that a zip archive can hold


def mount_points() -> set[str]:
    """Bind mounts of one file system share its device, so only the kernel's list tells them."""
    with open("/proc/self/mountinfo", encoding="utf-8") as rows:
        return {row.split()[4] for row in rows}


def began_s() -> float:
    """When the first process of this step started, in seconds since the epoch; 2 s early at most.

    Of every layer below, times are settled already, or those of packages: all are older.
    """
    with open("/proc/1/stat", encoding="utf-8") as row:
        ticks = row.read().rpartition(")")[2].split()[19]
    with open("/proc/stat", encoding="utf-8") as rows:
        booted = next(int(row.split()[1]) for row in rows if row.startswith("btime "))
    return booted + int(ticks) / os.sysconf("SC_CLK_TCK") - 2


def settle_written(mounted: set[str]) -> None:
    """What was written elsewhere: most often folders in which something was made."""
    since = began_s()
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in mounted]
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if path not in mounted and os.lstat(path).st_mtime >= since:
                os.utime(path, (EPOCH_S, EPOCH_S), follow_symlinks=False)


def main() -> None:
    mounted = mount_points()
    for top in sys.argv[1:]:
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in mounted]
            for path in (os.path.join(folder, name) for name in (*files, *folders)):
                if path not in mounted:
                    os.utime(path, (EPOCH_S, EPOCH_S), follow_symlinks=False)
        os.utime(top, (EPOCH_S, EPOCH_S))
    settle_written(mounted - {"/"})


if __name__ == "__main__":
    main()
