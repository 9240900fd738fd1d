"""What a command takes, measured from a process that is smaller than any command.

Linux counts as the largest size of a program also that of whoever started it: a benchmark that
holds the output of the last run would report itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """A finished command: seconds from its start to its end, seconds of all processors, the
    largest resident size of one of its processes, and its exit code."""

    wall_s: float
    cpu_s: float
    largest_mb: float
    code: int


def measured(words: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: Path) -> Measured:
    """Runs a command with its output in a file."""
    done = subprocess.run(
        [sys.executable, __file__, str(output), *words],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    )
    return Measured(*json.loads(done.stdout))


def _measure(output: str, words: Sequence[str]) -> Measured:
    with Path(output).open("wb") as stdout:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
    code = process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, code)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(sys.argv[1], sys.argv[2:])))
