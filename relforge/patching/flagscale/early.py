"""Entries of April and May 2025: ``<commit7>.patch`` beside ``<commit7>.yaml``, or no YAML at all.

Nothing in them but the file's name says what they are made for. A backend's patch is one of
FlagScale's own files below ``flagscale/backends/<backend>``, which the tools of that time copied
over the submodule.

In the days from 22 to 28 April 2025 one patch of all of FlagScale lay in a folder for the task and
the backends, ``<task>/<backend>[+<backend>]``, its last line without an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import TreeEntry
from relforge.patching.flagscale.diff_yaml import DIFF_YAML
from relforge.patching.flagscale.entry import is_patch
from relforge.patching.flagscale.names import PATCH, SEALED, history_key
from relforge.patching.flagscale.repository import Repository

_DIGITS = re.compile(r"[0-9a-f]{7,40}")


def digits_of(paths: Iterable[str]) -> str | None:
    """The first digits of the base, which name such an entry's files; None for other layouts."""
    there = set(paths)
    if DIFF_YAML in there:
        return None
    stems = {p.removesuffix(SEALED).removesuffix(PATCH) for p in there if is_patch(p)}
    stem = stems.pop() if len(stems) == 1 else ""
    return stem if _DIGITS.fullmatch(stem) else None


def yaml_name(digits: str) -> str:
    """The file in which such an entry describes itself."""
    return f"{digits}.yaml"


@dataclass(frozen=True)
class Draft:
    """An entry of those days in April."""

    folder: str
    task: str
    digits: str
    patches: tuple[TreeEntry, ...]


def draft_of(
    repository: Repository,
    commit: str,
    device: str,
    tasks: Sequence[str],
    backends: Sequence[str],
) -> Draft | None:
    """The entry for the first of the tasks that has one."""
    for task in tasks:
        folder = f"hardware/{device}/{task}/{history_key(backends)}"
        rows = repository.listing(commit, folder)
        digits = digits_of(row.path for row in rows)
        if digits is not None:
            return Draft(folder, task, digits, tuple(r for r in rows if is_patch(r.path)))
    return None


def base_named(repository: Repository, digits: str, commit: str) -> str:
    """The commit that a file's name means, in the history of the commit that holds the file.

    Raises RelforgeError (SOURCE) when there is none, or more than one.
    """
    git = repository.git
    listed = git.run("rev-parse", f"--disambiguate={digits}", check=False).text.split()
    found = [oid for oid in listed if git.has(oid, "commit")]
    before = [
        oid
        for oid in found
        if git.run("merge-base", "--is-ancestor", oid, commit, check=False).returncode == 0
    ]
    possible = before or found
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise repository.unreachable(digits, "the entry's files are named after it")
    raise RelforgeError(
        f"the commit id {digits} is ambiguous",
        code=ExitCode.SOURCE,
        where=repository.shown,
        why=f"the entry's files are named after it; it may be {' or '.join(possible)}",
        hint=f"look at them: git -C {repository.shown} log --no-walk {' '.join(possible)}",
    )
