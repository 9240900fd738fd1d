#!/usr/bin/env python3
"""Wall time and peak memory of ``relforge plan --all --json`` on a synthetic fleet, as a table.

    scripts/bench_plan.py [--releases 1000 10000] [--wheels 8] [--runs 3] [--dir DIR]

Makes, for each number of releases, a project in a temporary folder: ten devices, a model with a
folder of weights and a reference for every ten releases, a patch set of two patches for every ten
releases, and a lock for each. ``--wheels`` is the number of Python packages in each lock; they are
drawn from a pool, as releases of one stack do. Seconds are medians of the runs, from the start of
the process to its end: those of the clock, and those of all processors, which another load of the
machine changes less. The memory is the largest resident size of any process, times the number of
processes, although these share much of it. Exits 1 when 1,000 releases take more than 2 s, when
time grows more than tenfold from 1,000 to 10,000 releases, or when a run takes more than 300 MB.
Wants a quiet machine. A lock of the shipped release's size has 160 packages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from tests.support.measured import measured  # noqa: E402

LIMIT_S, LIMIT_GROWTH, LIMIT_MB = 2.0, 10.0, 300.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--releases", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--wheels", type=int, default=8, help="packages in each lock")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    from tests.support.fleet import make_project

    seconds: dict[int, float] = {}
    missed = []
    print(f"{'releases':>9}{'wall':>11}{'each':>11}{'processor':>11}{'memory':>12}{'output':>11}")
    for count in options.releases:
        with tempfile.TemporaryDirectory(dir=options.dir) as name:
            make_project(Path(name), count, options.wheels)
            runs = [measure(Path(name), count) for _ in range(options.runs)]
        seconds[count] = statistics.median(run.wall_s for run in runs)
        cpu_s = statistics.median(run.cpu_s for run in runs)
        memory_mb = max(run.memory_mb for run in runs)
        print(
            f"{count:>9}{seconds[count]:>9.2f} s{1000 * seconds[count] / count:>8.2f} ms"
            f"{cpu_s:>9.2f} s{memory_mb:>9.0f} MB{runs[0].output_bytes / 1e6:>8.1f} MB",
            flush=True,
        )
        if memory_mb > LIMIT_MB:
            missed.append(f"{count} releases: {memory_mb:.0f} MB, allowed {LIMIT_MB:.0f}")
    if seconds.get(1000, 0.0) > LIMIT_S:
        missed.append(f"1000 releases: {seconds[1000]:.2f} s, allowed {LIMIT_S}")
    if {1000, 10000} <= set(seconds) and seconds[10000] > LIMIT_GROWTH * seconds[1000]:
        missed.append(f"growth {seconds[10000] / seconds[1000]:.1f}, allowed {LIMIT_GROWTH}")
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


class Run(NamedTuple):
    """One plan of everything; the memory is that of all its processes."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    output_bytes: int


def measure(root: Path, count: int) -> Run:
    """Plans a project of *count* releases once."""
    program = [sys.executable, "-c", "from relforge.cli import main; main()"]
    words = [*program, "plan", "--all", "--json", "--project", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "RELFORGE_HOME": str(root / "home")}
    output = root / "plan.json"
    took = measured(words, cwd=root, env=environment, output=output)
    if took.code:
        raise SystemExit(f"relforge plan ended with {took.code}")
    from relforge.executor.forked import processes_for

    text = output.read_bytes()
    # The built-in project's own releases stand behind the synthetic ones.
    releases = json.loads(text)["releases"]
    planned = [p for p in releases if p["name"].startswith("model-")]
    if len(planned) != count or any(len(p["stages"]) < 10 for p in planned):
        raise SystemExit(f"{len(planned)} of {count} releases were planned")
    workers = processes_for(count)
    processes = workers + 1 if workers > 1 else 1
    return Run(took.wall_s, took.cpu_s, took.largest_mb * processes, len(text))


if __name__ == "__main__":
    sys.exit(main())
