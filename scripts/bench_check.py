#!/usr/bin/env python3
"""Wall and processor seconds of ``relforge check``: the built-in project, and fleets of its kind.

    scripts/bench_check.py [--releases 40 120] [--runs 5] [--dir DIR]

The first row is the project as it is. Each further one is a copy of it whose releases, with their
locks, were repeated as variants until there are as many. Seconds are medians, from the start of the
process to its end; those of the processor include the linters that the check starts, where they are
installed; the last column says which looks were not taken here. Exits 1 when a check of at most 120
releases takes more than 3 s, or finds a fault. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from tests.support.measured import Measured, measured  # noqa: E402

Report = dict[str, list[dict[str, str]]]
LIMIT_S, LIMIT_RELEASES = 3.0, 120
FOLDERS = ("manifests", "patches", "dockerfiles", "examples")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--releases", type=int, nargs="+", default=[40, 120])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()

    missed = []
    print(f"{'releases':>9}{'checked':>9}{'wall':>10}{'processor':>11}  not run")
    for count in (None, *options.releases):
        with tempfile.TemporaryDirectory(dir=options.dir) as name:
            root = CHECKOUT if count is None else make_fleet(Path(name), count)
            runs = [check(root) for _ in range(options.runs)]
        report = runs[0][1]
        releases = sum(str(one).startswith("release ") for one in report["checked"])
        wall_s = statistics.median(took.wall_s for took, _ in runs)
        cpu_s = statistics.median(took.cpu_s for took, _ in runs)
        not_run = ", ".join(one["look"] for one in report["not_run"]) or "-"
        print(
            f"{releases:>9}{len(report['checked']):>9}{wall_s:>8.2f} s{cpu_s:>9.2f} s  {not_run}",
            flush=True,
        )
        if releases <= LIMIT_RELEASES and wall_s > LIMIT_S:
            missed.append(f"{releases} releases: {wall_s:.2f} s, allowed {LIMIT_S}")
        missed += [f"{fault['where']}: {fault['message']}" for fault in report["faults"]]
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


def make_fleet(root: Path, count: int) -> Path:
    """A copy of the built-in project, its releases repeated as variants until there are *count*."""
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, root / name)
    folder = root / "manifests" / "releases"
    shipped = [p for p in sorted(folder.glob("*.yaml")) if not p.name.endswith(".lock.yaml")]
    for number in range(len(shipped), count):
        original = shipped[number % len(shipped)]
        name, copy = original.stem, f"copy{number}"
        text = original.read_text()
        known = re.search(r"^variant: (\S+)$", text, re.MULTILINE)
        old = f"name: {name}\n"
        if known is None:
            text = text.replace(old, f"name: {name}-{copy}\nvariant: {copy}\n", 1)
        else:
            text = text.replace(old, f"name: {name}-{copy}\n", 1)
            text = text.replace(known[0], f"variant: {known[1]}-{copy}", 1)
        (folder / f"{name}-{copy}.yaml").write_text(text)
        lock = (folder / f"{name}.lock.yaml").read_text()
        lock = lock.replace(f"\nrelease: {name}\n", f"\nrelease: {name}-{copy}\n", 1)
        (folder / f"{name}-{copy}.lock.yaml").write_text(lock)
    return root


def check(root: Path) -> tuple[Measured, Report]:
    """One check of a project, and what it printed."""
    program = [sys.executable, "-c", "from relforge.cli import main; main()"]
    with tempfile.TemporaryDirectory() as name:
        home, output = Path(name) / "home", Path(name) / "check.json"
        # Beside the Python that runs this lie the programs that pip installed.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        own = {"PATH": path, "PYTHONPATH": str(CHECKOUT), "RELFORGE_HOME": str(home)}
        words = [*program, "check", "--json", "--project", str(root)]
        took = measured(words, cwd=root, env={**os.environ, **own}, output=output)
        return took, json.loads(output.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
