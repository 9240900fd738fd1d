"""Moves native libraries out of ``OUT/python`` into ``OUT/native``, at the same relative paths.

Kernels change seldom and are large, Python files change often and are small: as two layers a
Python edit re-sends only the small one. Called as ``split_layers.py OUT``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def is_native(path: Path) -> bool:
    """Shared libraries, by name: ``x.so`` and ``x.so.1``."""
    return path.suffix == ".so" or ".so." in path.name


def main() -> None:
    out = Path(sys.argv[1])
    (out / "native").mkdir()
    for path in sorted((out / "python").rglob("*")):
        if path.is_file() and not path.is_symlink() and is_native(path):
            target = out / "native" / path.relative_to(out / "python")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)


if __name__ == "__main__":
    main()
