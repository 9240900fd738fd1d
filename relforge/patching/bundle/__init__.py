"""Bundles: a patch set in one sealed file (format: docs/bundle-format.md), and the doors to it.

``sealing`` writes bundles, ``opening`` reads them; this module shows one as a patch set, and lays
its patches out in a folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sync_folder
from relforge.frozen import canonical_json
from relforge.patching.bundle.header import VerifiedHeader, read_header
from relforge.patching.bundle.opening import (
    INDEX,
    BundleIndex,
    IndexedPatch,
    OpenedBundle,
    open_bundle,
    opened,
    verify_ciphertext,
)
from relforge.patching.bundle.sealing import SealedBundle, rotate, seal
from relforge.patching.series import SERIES
from relforge.patching.source import Patch, PatchSetInfo, PatchStream, Trust
from relforge.patching.tree.changes import ClaimedDiff
from relforge.workarea import outer_area, work_area

__all__ = [
    "HEADER_FILE",
    "INDEX",
    "BundleIndex",
    "BundlePatches",
    "IndexedPatch",
    "OpenedBundle",
    "SealedBundle",
    "open_bundle",
    "open_to_folder",
    "opened",
    "rotate",
    "seal",
    "verify_ciphertext",
]

HEADER_FILE = "bundle-header.json"


@dataclass(frozen=True)
class BundlePatches:
    """A patch set that lies sealed in one file."""

    path: Path

    def info(self, trust: Trust) -> PatchSetInfo:
        """What its verified header says; no private key is needed."""
        return read_header(self.path, trust.signers, allow_unsigned=trust.allow_unsigned).info

    @contextlib.contextmanager
    def stream(self, trust: Trust) -> Iterator[PatchStream]:
        """Its patches, decrypted while they are read."""
        with opened(
            self.path, trust.signers, trust.identities, allow_unsigned=trust.allow_unsigned
        ) as bundle:
            patches = tuple(
                Patch(name=p.name, sha256=p.sha256, size_bytes=p.size_bytes)
                for p in bundle.index.patches
            )
            diffs = (
                ClaimedDiff(patch.name, chunks, claims=patch.files)
                for patch, chunks in bundle.patches()
            )
            yield PatchStream(patches, bundle.verified.info, diffs, str(self.path))


def open_to_folder(bundle: Path, folder: Path, trust: Trust, *, home: Path) -> VerifiedHeader:
    """Writes a bundle's plain patch set to a new folder (0700): patches, ``series``, its header.

    The folder appears complete, after everything was verified, or not at all. Raises RelforgeError
    (SOURCE) as ``opened`` does, (USAGE) when there is something at *folder*.
    """
    _refuse_existing(folder)
    with work_area(home, "open") as area:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        with outer_area(area, folder.parent) as outer:
            new = outer / "set"
            try:
                verified = _write_patches(bundle, new, trust)
                _refuse_existing(folder)
                new.rename(folder)
                sync_folder(folder.parent)
            except OSError as error:
                raise cannot_write(folder, error) from error
    return verified


def _write_patches(bundle: Path, new: Path, trust: Trust) -> VerifiedHeader:
    new.mkdir(mode=0o700)
    with opened(
        bundle, trust.signers, trust.identities, allow_unsigned=trust.allow_unsigned
    ) as content:
        names = []
        for patch, chunks in content.patches():
            path = new / patch.name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _private(path) as write:
                for chunk in chunks:
                    write(chunk)
            names.append(patch.name)
    with _private(new / SERIES) as write:
        write("".join(f"{name}\n" for name in names).encode())
    # It is not read again, so a patch of that name may have the place.
    if HEADER_FILE not in names:
        with _private(new / HEADER_FILE) as write:
            write(canonical_json(content.verified.header) + b"\n")
    return content.verified


@contextlib.contextmanager
def _private(path: Path) -> Iterator[Callable[[bytes], int]]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        yield handle.write


def _refuse_existing(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise RelforgeError(
            "the folder is there already",
            code=ExitCode.USAGE,
            where=str(folder),
            why="an opened patch set goes to a new folder, and nothing is overwritten",
            hint="name another folder with --dir",
        )
