#!/usr/bin/env python3
"""How fast `relforge explain` reads a log, and how much memory that takes.

    ./scripts/bench_explain.py [MEGABYTES]      default 1000

The log is the recorded one of a healthy server, over and over, with an error in the last line.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEALTHY = ROOT / "tests" / "fixtures" / "diagnosis" / "healthy"
LAST = b"ValueError: No available memory for the cache blocks.\n"


def main() -> None:
    size = int(sys.argv[1]) * 1_000_000 if len(sys.argv) > 1 else 1_000_000_000
    log = sorted(HEALTHY.glob("*.log"))[0].read_bytes()
    started = time.monotonic()
    reader = subprocess.Popen(
        [sys.executable, "-c", "from relforge.cli import main; main()", "explain", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert reader.stdin is not None
    for _ in range(size // len(log)):
        reader.stdin.write(log)
    reader.stdin.write(LAST)
    said, _ = reader.communicate()
    seconds = time.monotonic() - started
    assert b"no-kv-cache" in said, said
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{size / 1e6:.0f} MB in {seconds:.1f} s: {size / 1e6 / seconds:.0f} MB/s, {peak} MiB")


if __name__ == "__main__":
    main()
