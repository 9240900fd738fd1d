#!/usr/bin/env python3
"""What searching an image costs: seconds, and processor seconds, for all layers and when known.

    ./scripts/bench_scan.py dist/R/image [--runs 3]

Exits with 1 when the whole takes more than 60 s of processor time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from relforge.manifest.site import Site
from relforge.scanning.image import hits_of, layer_reports
from relforge.scanning.looking import LookedFor
from relforge.scanning.seeking import Finder

_LIMIT_S = 60.0


def main() -> None:
    """Prints two lines for each run: nothing known, everything known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layout", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    sys.stdout.write("  layers   seconds     cpu_s    files        GB  hits\n")
    slowest = 0.0
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            looked_for = LookedFor(Site(), Path(folder), ())
            finder = Finder(looked_for.searcher, looked_for.policy)
            for state in ("new", "known"):
                wall, cpu = time.monotonic(), time.process_time()
                reports = tuple(
                    layer_reports(
                        options.layout, finder, cache=Path(folder) / "layers", policy_key="bench"
                    )
                )
                wall, cpu = time.monotonic() - wall, time.process_time() - cpu
                slowest = max(slowest, cpu)
                files = sum(report.searched.files for report in reports)
                size = sum(report.searched.bytes for report in reports) / 1e9
                sys.stdout.write(
                    f"{state:>8} {wall:9.2f} {cpu:9.2f} {files:8} {size:9.2f} "
                    f"{len(hits_of(reports)):5}\n"
                )
    if slowest > _LIMIT_S:
        sys.exit(f"searching took {slowest:.0f} s, wanted are at most {_LIMIT_S:.0f}")


if __name__ == "__main__":
    main()
