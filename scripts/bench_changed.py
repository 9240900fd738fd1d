#!/usr/bin/env python3
"""How long it takes to say what changed since a commit, in a project of 500 releases.

    ./scripts/bench_changed.py [RELEASES]

Prints the best of three for each kind of change, in seconds of a fresh process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from relforge.manifest.project import builtin_root
from tests.support.fleet import make_project

ROUNDS = 3
_WHAT = (
    "import sys; from pathlib import Path; from relforge.changed import changed_releases; "
    "from relforge.manifest.project import find_project; from relforge.manifest.site import Site; "
    "p = find_project(Path('.'), Path(sys.argv[1])); s = Site(home=Path(sys.argv[2])); "
    "print(len(changed_releases(p, s, list(p.own_releases), 'HEAD')))"
)


def git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=bench", "-c", "user.email=bench@invalid")
    subprocess.run(["git", "-C", root, *who, *words], check=True, stdout=subprocess.DEVNULL)


def measure(name: str, root: Path, home: Path) -> None:
    best, changed = float("inf"), ""
    for _ in range(ROUNDS):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _WHAT, root, home], check=True, capture_output=True, text=True
        )
        best, changed = min(best, time.perf_counter() - start), done.stdout.strip()
    print(f"{name:<28} {changed:>4} changed  {best:6.2f} s")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as folder:
        root, home = Path(folder) / "project", Path(folder) / "home"
        root.mkdir()
        make_project(root, count, 40)
        shutil.copytree(builtin_root() / "dockerfiles", root / "dockerfiles")
        git(root, "init", "-q")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "first")
        measure("nothing", root, home)
        edit(root / "manifests" / "releases" / "model-0-chip_0.yaml", "title: ", "title: The ")
        measure("a release", root, home)
        git(root, "checkout", "-q", ".")
        edit(root / "patches" / "main-0" / "0001.patch", "+after 0", "+after 1")
        measure("a patch set of ten releases", root, home)
        git(root, "checkout", "-q", ".")
        edit(root / "manifests" / "devices" / "chip_0.yaml", "title: ", "title: The ")
        measure("a device of a tenth", root, home)
        git(root, "checkout", "-q", ".")
        edit(root / "dockerfiles" / "base.j2", " AS system\n", " AS system\nENV EDITED=1\n")
        measure("a template of all", root, home)


if __name__ == "__main__":
    main()
