"""What scripts of a tree add to a Python environment, as files laid out from ``/``.

``added.py before PREFIX STATE`` remembers every file of the environment; ``added.py after PREFIX
STATE OUT`` moves the files that are new to OUT and fails when one that was there was changed or
removed: the image's layers can only add, and what was locked must stay what it was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path


def is_cache(path: Path) -> bool:
    """Bytecode comes and goes with every import."""
    return path.suffix == ".pyc" or path.name == "__pycache__"


def files(prefix: Path) -> dict[str, list[int]]:
    """Every file and link below, with size and time of the last change."""
    found = {}
    for folder, _, names in os.walk(prefix):
        for name in names:
            path = Path(folder, name)
            if not is_cache(path):
                status = path.lstat()
                found[str(path)] = [status.st_size, status.st_mtime_ns]
    return found


def main() -> None:
    what, prefix, state, *rest = sys.argv[1:]
    now = files(Path(prefix))
    if what == "before":
        Path(state).write_text(json.dumps(now))
        return
    before = json.loads(Path(state).read_text())
    lost = sorted(path for path in before if now.get(path) != before[path])
    if lost:
        raise SystemExit(
            "the scripts changed or removed files of packages that were installed before:\n"
            + "\n".join(f"  {path}" for path in lost[:20])
        )
    added = sorted(path for path in now if path not in before)
    if not added:
        raise SystemExit(f"the scripts installed nothing into {prefix}")
    out = Path(rest[0])
    for path in added:
        target = out / Path(path).relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    print(f"{len(added)} files added")


if __name__ == "__main__":
    main()
