"""Whether two copies of relforge are the same: by version, and by the code itself."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import relforge


def own_code() -> Path:
    """The folder that this process has relforge from."""
    return Path(relforge.__file__).resolve().parent


@lru_cache(maxsize=1)
def own_version() -> str:
    """``0.3.0 (code 1f2e3d4c5b6a)``: a checkout keeps its version while its code changes."""
    root = own_code()
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{relforge.__version__} (code {digest.hexdigest()[:12]})"
