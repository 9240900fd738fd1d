"""The weight files that all releases share: ``<home>/store/weights/<aa>/<sha256>``.

Beside each lies its stamp: a file whose size, mtime and inode are as recorded is taken to be
unaltered, as git's index does, because hashing hundreds of gigabytes on every run would not do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from relforge.files import (
    Output,
    altered,
    cannot_write,
    sha256_file,
    stamp,
    sync_folder,
    write_atomic,
)
from relforge.leftovers import owned_folder, remove


class WeightStore:
    """Files by the SHA-256 of their content, read-only; ``root`` is ``<home>/store``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "weights"

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _stamp(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}.json"

    def lock(self, sha256: str) -> Path:
        """Held by whoever fetches the file."""
        return self.root / "locks" / f"weights-{sha256[:32]}"

    def incoming(self, sha256: str) -> Path:
        """The folder that the file is fetched into; it outlives a run that is interrupted."""
        return self.folder / ".incoming" / sha256

    def incoming_bytes(self, sha256: str) -> int:
        """How much of a file that was not taken in yet is here already."""
        return sum(p.stat().st_size for p in self.incoming(sha256).rglob("*") if p.is_file())

    def lookup(self, sha256: str) -> Output | None:
        """The stored file, or None; one that was altered is removed."""
        path = self._path(sha256)
        if not path.is_file():
            return None
        try:
            known = Output.model_validate_json(self._stamp(sha256).read_bytes())
        except (OSError, ValidationError):
            known = None
        if known is not None and known.path == path.absolute() and altered(known) is None:
            return known
        if sha256_file(path) == sha256:
            return self._remember(sha256)
        path.unlink()
        return None

    def add(self, sha256: str, fetched: Path) -> Output:
        """Takes in a file whose hash the caller has just found to be *sha256*; it is moved."""
        path = self._path(sha256)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fetched.chmod(0o444)
            with fetched.open("rb") as handle:
                os.fsync(handle.fileno())
            fetched.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise cannot_write(path, error) from error
        return self._remember(sha256)

    def _remember(self, sha256: str) -> Output:
        output = stamp(self._path(sha256), sha256=sha256)
        write_atomic(self._stamp(sha256), output.model_dump_json().encode())
        return output

    def folder_of(self, place: Path, files: Mapping[str, str]) -> Path:
        """Makes the folder ``files`` in *place*, with exactly these files (path to SHA-256).

        They are hard links, so they take no space. Every file must be in the store; the caller
        sees to it that nobody else makes the same folder.
        """
        final = place / "files"
        try:
            place.mkdir(parents=True, exist_ok=True)
            with owned_folder(place, ".files") as made:
                for path, sha256 in files.items():
                    link = made / path
                    link.parent.mkdir(parents=True, exist_ok=True)
                    # One stored file may stand under several names.
                    link.hardlink_to(self._path(sha256))
                made.chmod(0o755)
                remove(final)
                made.rename(final)
        except OSError as error:
            raise cannot_write(final, error) from error
        sync_folder(place)
        return final

    def drop_incoming(self, sha256: str) -> None:
        """Removes what was fetched of a file."""
        with contextlib.suppress(OSError):
            remove(self.incoming(sha256))
