#!/usr/bin/env python3
"""What looking into an image costs: seconds, memory of syft, and disk while it is unpacked.

    ./scripts/bench_sbom.py dist/R/image [--runs 3]

Says whether each run found the same.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

from relforge.frozen import canonical_json
from relforge.sbom.packages import packages_of
from relforge.sbom.syft import Syft, find, scan


def used_bytes(folder: Path) -> int:
    """Bytes that the files of a folder take, while they come and go."""
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.lstat().st_blocks * 512
        except OSError:
            continue
    return found


def main() -> None:
    """Prints one line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layout", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    program = find()
    if not isinstance(program, Syft):
        sys.exit(program)
    sys.stdout.write("    syft_s  relforge_s  memory_GB   disk_GB  packages\n")
    seen = set()
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            ended, most = threading.Event(), [0]

            def watch(area: Path, ended: threading.Event, most: list[int]) -> None:
                while not ended.wait(0.2):
                    most[0] = max(most[0], used_bytes(area))

            watcher = threading.Thread(target=watch, args=(Path(folder), ended, most))
            watcher.start()
            started = time.monotonic()
            found = scan(
                program, options.layout.absolute(), name="bench", area=Path(folder),
                line=lambda text: print(text, file=sys.stderr),
            )  # fmt: skip
            read = time.monotonic()
            ended.set()
            watcher.join()
            packages = packages_of(found)
        rows = [package.model_dump(mode="json") for package in packages]
        seen.add(hashlib.sha256(canonical_json(rows)).hexdigest())
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        sys.stdout.write(
            f"{read - started:10.1f}{time.monotonic() - read:12.1f}{memory / 1e9:11.2f}"
            f"{most[0] / 1e9:10.2f}{len(packages):10}\n"
        )
    sys.stdout.write(f"{'the same' if len(seen) == 1 else 'NOT the same'} each time\n")


if __name__ == "__main__":
    main()
