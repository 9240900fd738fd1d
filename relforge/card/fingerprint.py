"""What wording and layout of cards is in force: a changed sentence makes published cards stale."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_ELSEWHERE = ("lint", "execute")
"""They read cards, and write none."""


@lru_cache(maxsize=1)
def generator_sha256() -> str:
    """Of the generator's own files: templates, wordings, parts."""
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.rglob("*")):
        name = path.relative_to(_FOLDER).as_posix()
        if path.suffix in (".py", ".j2", ".yaml") and name.split("/")[0] not in _ELSEWHERE:
            digest.update(f"{name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
