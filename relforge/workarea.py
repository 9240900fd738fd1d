"""Private work areas: the only places where decrypted bytes may lie, and how they are swept.

An area is a 0700 folder below ``<home>/work`` that names its owner and is locked by it
(``relforge/leftovers.py``); it is removed on every way out, and after a ``kill -9`` by ``sweep``.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, write_atomic
from relforge.leftovers import end_users, left_behind, owned_folder, remove, sweep_files

OUTER_PREFIX = ".relforge-"
UNFINISHED = f"{OUTER_PREFIX}sealing"
"""What a half-written bundle is called, before the part that names its owner."""
_OUTSIDE = ".outside"
_PURPOSE = re.compile(r"^[a-z][a-z0-9-]*$")


@contextlib.contextmanager
def work_area(home: Path, purpose: str) -> Iterator[Path]:
    """A fresh 0700 folder below ``<home>/work``, removed on every way out.

    Raises RelforgeError (ENVIRONMENT) when it cannot be made.
    """
    if not _PURPOSE.match(purpose):
        raise ValueError(f"the purpose of a work area is a lower-case word, not {purpose!r}")
    parent = home / "work"
    with contextlib.ExitStack() as stack:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            area = stack.enter_context(owned_folder(parent, purpose))
        except OSError as error:
            raise cannot_write(parent, error) from error
        yield area


@contextlib.contextmanager
def outer_area(area: Path, folder: Path) -> Iterator[Path]:
    """A 0700 folder inside *folder*, which belongs to *area* and is removed and swept with it.

    For results that must be renamed into *folder* and so be made on its file system. Half-written
    bundles that a killed relforge left there, or in the folder around it, go, too: people name a
    folder, and trees are written to folders in it. Raises RelforgeError (ENVIRONMENT).
    """
    for place in (folder, folder.parent):
        sweep_unfinished(place)
    path = folder / f"{OUTER_PREFIX}{area.name}"
    try:
        # Recorded first: a kill between the two lines leaves a record without a folder.
        write_atomic(area / _OUTSIDE, os.fsencode(path.absolute()), mode=0o600)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield path
    finally:
        remove(path)


def sweep_unfinished(folder: Path) -> list[Path]:
    """Removes the half-written bundles that killed owners left in a folder; returns them."""
    return sweep_files(folder, f"{UNFINISHED}-")


def sweep(home: Path, line: Callable[[str], None] = lambda _line: None) -> list[Path]:
    """Removes the work areas whose owner is gone (after a kill -9, a crash, a power cut).

    Returns what was removed; ``line`` is told what cannot be removed, and why. Safe beside
    running owners and other sweepers.
    """
    parent = home / "work"
    removed: list[Path] = []
    try:
        found = sorted(parent.iterdir())
    except FileNotFoundError:
        return removed
    except OSError as error:
        raise RelforgeError(
            "relforge's home cannot be used",
            code=ExitCode.ENVIRONMENT,
            where=str(home),
            why=error.strerror,
            hint="make it a folder that you can read and write, or name another one: home in the "
            "site configuration, or RELFORGE_HOME",
        ) from error
    for area in found:
        if not area.is_dir():
            continue
        with left_behind(area) as gone:
            if gone:
                # Else one of them could go on writing what is just being removed.
                end_users(area)
                _remove_outside(area)
                if remove(area, line):
                    removed.append(area)
    return removed


def _remove_outside(area: Path) -> None:
    try:
        path = Path(os.fsdecode((area / _OUTSIDE).read_bytes()))
    except OSError:
        return
    # The record is ours alone (0700), but a wrong one must never delete anything else.
    if path.name == f"{OUTER_PREFIX}{area.name}" and not path.is_symlink():
        remove(path)
