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


_METADATA = r"""\
import json, importlib.metadata as m
names = lambda d: [e.name for e in d.entry_points if e.group.startswith("vllm.")]
def licence(d):
    stated = d.metadata.get("License-Expression")
    classed = [c.rpartition(" :: ")[2] for c in d.metadata.get_all("Classifier") or ()
               if c.startswith("License :: ") and c.count(" :: ") > 1]
    free = (d.metadata.get("License") or "").strip()
    short = free if len(free) <= 60 and "\n" not in free else ""
    return stated or " AND ".join(sorted(set(classed))) or short or "not stated"
found = list(m.distributions())
print(json.dumps({"plugins": {d.metadata["Name"]: names(d) for d in found},
                  "licenses": {d.metadata["Name"]: licence(d) for d in found}}))
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
    metadata = subprocess.run([python, "-c", _METADATA], capture_output=True, text=True, check=True)
    known = json.loads(metadata.stdout)
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
                "plugins": {n: names for n, names in known["plugins"].items() if names},
                "licenses": known["licenses"],
                "debian": dict(line.split(" ", 1) for line in debian),
            },
            indent=1,
            sort_keys=True,
        )
    )


if __name__ == "__main__":
    main()
