"""Paths of the host that built: its people, its checkout, relforge's home."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from relforge.scanning.rules import Rule

_PATH_SIGN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
# Homes that images have themselves, or that those have who build packages for everybody.
_NOBODYS = frozenset(
    f"/home/{name}" for name in ("runner", "ubuntu", "debian", "user", "builder", "jenkins",
                                 "vscode", "circleci", "vsts", "conda", "app")
)  # fmt: skip


def home_paths(
    *, home: Path, roots: Iterable[Path], site_file: Path | None, person: Path
) -> tuple[str, ...]:
    """The folders that are looked for, sorted.

    ``home`` is relforge's, ``roots`` are the project's, ``person`` is the user's own. A folder
    directly below ``/`` is none: ``/root`` and ``/src`` are in images, too.
    """
    folders = {home.absolute(), *(root.absolute() for root in roots)}
    if site_file is not None:
        folders.add(site_file.absolute().parent)
    folders |= {folder.resolve() for folder in folders}
    folders.add(person)
    texts = {str(folder) for folder in folders if len(folder.parts) > 2}
    return tuple(sorted(texts - _NOBODYS))


def home_rules(folders: Iterable[str]) -> tuple[Rule, ...]:
    """A rule for each folder: the folder itself or anything below it, as a whole path."""
    return tuple(_rule(folder.encode()) for folder in folders)


def _rule(folder: bytes) -> Rule:
    def confirm(data: bytes, at: int) -> bool:
        after = at + len(folder)
        # Not the end of a longer path, nor the beginning of a longer name.
        if at > 0 and data[at - 1] in _PATH_SIGN:
            return False
        return after >= len(data) or data[after] not in _PATH_SIGN or _ends(data, after)

    return Rule("home-path", "home-path", "a path of the host that built", (folder,), confirm)


def _ends(data: bytes, at: int) -> bool:
    """A full stop that ends a sentence."""
    return re.match(rb"\.(?![A-Za-z0-9_.-])", data[at : at + 2]) is not None
