#!/usr/bin/env python3
"""What a smoke test adds to the server's own start, end and requests, in seconds.

    ./scripts/bench_smoke.py --image NAME [--runs 5]

Needs an engine that has the image of a release (./scripts/quickstart makes one).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any


def smoke(image: str) -> dict[str, Any]:
    """The report of one smoke test of an image."""
    command = [sys.executable, "-c", "from relforge.cli import main; main()"]
    done = subprocess.run(
        [*command, "smoke", "--image", image, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def main() -> None:
    """Prints one line for each run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--image", required=True, help="name or digest, in the engine")
    options = parser.parse_args()
    reports = [smoke(options.image) for _ in range(options.runs)]
    figures = ("launch_s", "start_to_ready_s", "stop_s", "overhead_s")
    sys.stdout.write("".join(f"{name:>18}" for name in (*figures, "probes_s")) + "\n")
    rows: list[list[float]] = []
    for report in reports:
        asked = sum(p["seconds"] for p in report["probes"]) - report["start_to_ready_s"]
        rows.append([*(report[name] for name in figures), asked - report["stop_s"]])
        sys.stdout.write("".join(f"{value:18.2f}" for value in rows[-1]) + "\n")
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    sys.stdout.write("".join(f"{value:18.2f}" for value in medians) + "  median\n")


if __name__ == "__main__":
    main()
