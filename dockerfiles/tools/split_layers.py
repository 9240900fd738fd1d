"""Splits the one package of a virtual environment into native and Python files.

Kernels change seldom and are large, Python files change often and are small: as two layers a
Python edit re-sends only the small one. Called as ``split_layers.py VENV OUT``; writes
``OUT/native`` and ``OUT/python``, both laid out from the root of the image.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path


def is_native(path: Path) -> bool:
    """Shared libraries, by name: ``x.so`` and ``x.so.1``."""
    return path.suffix == ".so" or ".so." in path.name


def main() -> None:
    venv, out = Path(sys.argv[1]), Path(sys.argv[2])
    site_packages = [str(p) for p in venv.glob("lib/python*/site-packages")]
    (package,) = distributions(path=site_packages)
    for kind in ("native", "python"):
        (out / kind).mkdir(parents=True)
    # RECORD names every installed file, scripts in bin/ among them.
    for file in package.files or ():
        path = Path(str(file.locate())).resolve()
        target = out / ("native" if is_native(path) else "python") / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)


if __name__ == "__main__":
    main()
