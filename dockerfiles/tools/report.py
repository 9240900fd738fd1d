"""Reads back what an image carries: ``report.py PYTHON OUT`` writes one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def pip(python: str, *words: str) -> tuple[int, str]:
    """Runs the installer's pip against another interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


_PLUGINS = """\
import json, importlib.metadata as m
names = lambda d: [e.name for e in d.entry_points if e.group.startswith("vllm.")]
print(json.dumps({d.metadata["Name"]: names(d) for d in m.distributions()}))
"""


def main() -> None:
    python, out = sys.argv[1], Path(sys.argv[2])
    status, listed = pip(python, "list", "--format", "json")
    if status != 0:
        raise SystemExit(f"pip list ended with {status}: {listed}")
    check_status, complaints = pip(python, "check")
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    plugins = subprocess.run([python, "-c", _PLUGINS], capture_output=True, text=True, check=True)
    debian = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    out.write_text(
        json.dumps(
            {
                "python": version,
                "packages": {p["name"]: p["version"] for p in json.loads(listed)},
                "pip_check": {
                    "status": check_status,
                    "complaints": [c for c in complaints.splitlines() if check_status and c],
                },
                "plugins": {n: names for n, names in json.loads(plugins.stdout).items() if names},
                "debian": dict(line.split(" ", 1) for line in debian),
            },
            indent=1,
            sort_keys=True,
        )
    )


if __name__ == "__main__":
    main()
