"""The files of a model in a folder here, with their hashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from relforge.files import sha256_file
from relforge.weights.folder import names_in

OnLine = Callable[[str], None]


def folder_hashes(folder: Path, *, model: str, line: OnLine) -> dict[str, str]:
    """SHA-256 of every file below *folder*. Raises RelforgeError (SOURCE)."""
    found = {}
    for name in names_in(folder, subject=model):
        found[name] = sha256_file(folder / name)
        line(f"{found[name]}  {name}")
    return found


def folder_pins(folder: Path, *, model: str, line: OnLine) -> dict[str, dict[str, Any]]:
    """The same, with sizes, as ``weights.files`` of what lies elsewhere has it."""
    return {
        name: {"sha256": sha256, "size_bytes": (folder / name).stat().st_size}
        for name, sha256 in folder_hashes(folder, model=model, line=line).items()
    }
