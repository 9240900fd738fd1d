"""How things go: out of sight by one rename, then for good. A kill leaves nothing half there.

What goes is first renamed into ``<home>/leaving``, where nobody looks for it: so a folder that is
half deleted is never taken for a whole one. A result goes before its outputs. What a killed
collector left there goes with the next one. Where an image in the engine goes as well, a note of it
stays in ``leaving`` until the engine has let go of it.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from relforge.collecting.model import EngineCopy, Item
from relforge.errors import RelforgeError
from relforge.files import cannot_write, write_atomic
from relforge.frozen import Frozen, sha256_hex
from relforge.leftovers import remove
from relforge.locks import try_locked

_NOTE = ".engine.json"


class EngineNote(Frozen):
    """Images in the engine that went out of use with something of this home."""

    images: tuple[EngineCopy, ...]


class Leaving:
    """The place where things wait for their end."""

    def __init__(self, home: Path, line: Callable[[str], None]) -> None:
        self.folder = home / "leaving"
        self._line = line

    def discard(self, item: Item) -> None:
        """Deletes what belongs to the item, in its order. Raises RelforgeError (ENVIRONMENT)."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if item.images:
                # First: an image that nobody notes would stay in the engine for ever.
                note = EngineNote(images=item.images).model_dump_json().encode()
                write_atomic(self.folder / f"{sha256_hex(note)[:16]}{_NOTE}", note)
            for path in item.paths:
                self._one(path)
        except OSError as error:
            raise cannot_write(item.paths[0], error) from error

    def _one(self, path: Path) -> None:
        place = self.folder / secrets.token_hex(8)
        try:
            path.rename(place)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EBUSY):
                raise
            place = path  # on a file system of its own
        remove(place, self._line)

    def left(self) -> list[Path]:
        """What a killed collector left, but for notes."""
        if not self.folder.is_dir():
            return []
        return [path for path in sorted(self.folder.iterdir()) if not path.name.endswith(_NOTE)]

    def finish(self) -> None:
        """Deletes that."""
        for path in self.left():
            remove(path, self._line)

    def notes(self) -> Iterator[tuple[Path, EngineNote]]:
        """Images that the engine has to let go of, from this and from earlier collections."""
        for path in sorted(self.folder.glob(f"*{_NOTE}")):
            try:
                yield path, EngineNote.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                path.unlink(missing_ok=True)  # half written: its thing has not gone


def discard_lock(path: Path) -> bool:
    """Deletes a lock file that nobody holds; says whether it is gone."""
    try:
        with try_locked(path) as ours:
            if ours:
                # The last that is done while it is held: whoever waited for it makes a new one.
                path.unlink(missing_ok=True)
            return ours
    except (OSError, RelforgeError):
        return False
