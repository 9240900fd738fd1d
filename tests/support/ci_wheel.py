"""Two ways in which a runner has the relforge of this checkout: as a program, and for pip."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from relforge.manifest.project import builtin_root

_PROGRAM = """\
import os, sys
def main():
    os.environ["PYTHONPATH"] = {checkout!r}
    code = "from relforge.cli import main; main()"
    os.execv({python!r}, [{python!r}, "-c", code, *sys.argv[1:]])
"""


def offline_pip(folder: Path) -> dict[str, str]:
    """Makes the wheel in a new folder; returns the variables with which pip finds it alone."""
    folder.mkdir()
    info = "relforge-1.0.dist-info"
    extras = "".join(f"Provides-Extra: {one}\n" for one in ("lint", "bench", "eval", "sbom"))
    files = {
        "relforge_of_checkout.py": _PROGRAM.format(
            checkout=str(builtin_root()), python=sys.executable
        ),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: relforge\nVersion: 1.0\n{extras}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nrelforge = relforge_of_checkout:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / "relforge-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}


def program(folder: Path) -> Path:
    """A program ``relforge`` in a new folder, for PATH."""
    folder.mkdir()
    file = folder / "relforge"
    file.write_text(
        f"#!/bin/sh\nPYTHONPATH={builtin_root()} exec {sys.executable} "
        "-c 'from relforge.cli import main; main()' \"$@\"\n"
    )
    file.chmod(0o755)
    return folder
