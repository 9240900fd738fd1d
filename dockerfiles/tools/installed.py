"""Settles what installers write beside packages: nothing of this moment, nothing of this host.

``installed.py FOLDER...`` looks for every ``*.dist-info`` below the folders. It removes what only
an installer's cache reads (``uv_cache.json``, with the time at which the wheel was fetched) and
where a wheel lay that is gone by now (``direct_url.json`` of a file), and writes RECORD without
them, its rows sorted.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

_CACHE = "uv_cache.json"
_ORIGIN = "direct_url.json"


def of_a_file(path: Path) -> bool:
    """Whether a package was installed from a file or a folder, not from an address."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["url"]).startswith("file:")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def settle(info: Path) -> None:
    """One installed package, by its ``*.dist-info`` folder."""
    gone = set()
    for path in (info / _CACHE, info / _ORIGIN):
        if (path.name == _CACHE and path.is_file()) or of_a_file(path):
            path.unlink()
            gone.add(f"{info.name}/{path.name}")
    record = info / "RECORD"
    if not record.is_file():
        return
    with record.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and row[0] not in gone]
    with record.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(sorted(rows))


def main() -> None:
    for top in sys.argv[1:]:
        for folder, folders, _ in os.walk(top):
            for name in sorted(folders):
                if name.endswith(".dist-info"):
                    settle(Path(folder, name))


if __name__ == "__main__":
    main()
