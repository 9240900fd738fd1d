"""Evidence as it lies on disk: one JSON object, and the very file that somebody pinned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import sha256_hex


def read_object(
    path: Path, *, sha256: str | None, refused: Callable[[Path, str], RelforgeError]
) -> dict[str, Any]:
    """The JSON object in a file. ``sha256`` is what a manifest pins, None where nothing does.

    Raises RelforgeError (SOURCE) when the file is not the pinned one, and what *refused* makes of
    the reason when it cannot be read or holds something else.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise refused(path, error.strerror or str(error)) from error
    if sha256 is not None and sha256_hex(raw) != sha256:
        raise RelforgeError(
            "the evidence file is not the one that the manifest pins",
            code=ExitCode.SOURCE,
            where=str(path),
            why=f"expected sha256 {sha256}, found {sha256_hex(raw)}",
            hint="restore the file, or measure again and pin its new hash",
        )
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise refused(path, str(error)) from error
    if not isinstance(parsed, dict):
        raise refused(path, "it holds no JSON object")
    return parsed
