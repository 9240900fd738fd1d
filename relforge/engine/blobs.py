"""The files of an image layout: reading them checked, and the error for one that is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError

_CHUNK = 1 << 20


def blob_path(layout: Path, digest: str) -> Path:
    """Where a blob lies. ``digest`` is ``sha256:<hex>``."""
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def read_json(layout: Path, path: Path, code: ExitCode) -> dict[str, Any]:
    """A JSON object of the layout. Raises RelforgeError with ``code``."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise damaged(layout, f"{path.name} is missing", code) from None
    except (OSError, ValueError) as error:
        raise damaged(layout, f"{path.name} cannot be read: {error}", code) from error
    if not isinstance(value, dict):
        raise damaged(layout, f"{path.name} is not a JSON object", code)
    return value


def check_size(layout: Path, descriptor: dict[str, Any], code: ExitCode) -> Path:
    """The path of a blob that is there with its size. Raises RelforgeError with ``code``."""
    digest = str(descriptor["digest"])
    path = blob_path(layout, digest)
    try:
        size = path.stat().st_size
    except OSError:
        raise damaged(layout, f"blob {digest} is missing", code) from None
    if size != descriptor["size"]:
        raise damaged(
            layout, f"blob {digest} has {size} bytes instead of {descriptor['size']}", code
        )
    return path


def small_blob(layout: Path, descriptor: dict[str, Any], code: ExitCode) -> bytes:
    """The content of a blob, its hash checked. Raises RelforgeError with ``code``."""
    data = check_size(layout, descriptor, code).read_bytes()
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != descriptor["digest"]:
        raise altered(layout, descriptor["digest"], found, code)
    return data


def hash_blob(path: Path, cancel: CancelToken | None) -> str:
    """``sha256:<hex>`` of a file. Raises OSError, Cancelled."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
            if cancel is not None:
                cancel.check()
    return f"sha256:{digest.hexdigest()}"


def sync_file(path: Path) -> None:
    """Writes a file through to the disk. Raises OSError."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def link_or_copy(src: Path, dst: Path) -> None:
    """A hard link, or a synced copy where links are not possible. Raises OSError."""
    try:
        os.link(src, dst)
    except OSError:
        shutil.copyfile(src, dst)
        sync_file(dst)


def altered(layout: Path, digest: str, found: str, code: ExitCode) -> RelforgeError:
    """The error for a blob whose content is not what its name says."""
    return damaged(layout, f"blob {digest} was altered: its content hashes to {found}", code)


def damaged(layout: Path, why: str, code: ExitCode) -> RelforgeError:
    """The error for a layout that cannot be used as it is."""
    return RelforgeError(
        "the image layout is damaged",
        code=code,
        where=str(layout),
        why=why,
        hint="get it again from a place that has it whole, or publish the release again"
        if code is ExitCode.PUBLISH
        else f"delete {layout} and build again: the same inputs give the image anew",
    )
