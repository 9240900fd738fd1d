"""Searches files beside the image: evidence, cards, the record, attestations."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from pathlib import Path

from relforge.scanning.archives import search_file
from relforge.scanning.hits import Searched
from relforge.scanning.seeking import Finder, Found

_LARGEST_ENVELOPE = 64 << 20


def search_files(files: Mapping[str, Path], finder: Finder) -> Searched:
    """``files`` by the names that a report gives them. Raises OSError."""
    found = Found(finder, lines_needed=1)
    for name, path in sorted(files.items()):
        size = path.stat().st_size
        with path.open("rb") as file:
            search_file(name, file, size, found)
        if size <= _LARGEST_ENVELOPE and (payload := _payload(path)) is not None:
            found.file(f"{name}!payload", io.BytesIO(payload), len(payload))
    found.paths(sorted(files))
    return found.searched()


def _payload(path: Path) -> bytes | None:
    """What a DSSE envelope signs, which it has in base64."""
    data = path.read_bytes()
    if not data.lstrip().startswith(b"{") or b'"payloadType"' not in data:
        return None
    try:
        return base64.b64decode(json.loads(data)["payload"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
