"""Three-way merges of trees without a checkout, by ``git merge-tree``, and their conflicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from relforge import proc
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.tree.changes import shown_path

_SHOWN = 20


@dataclass(frozen=True)
class Conflict:
    """A file that a patch and the new base both changed.

    ``line`` counts from 1 in the file as it is before the patch; ``None`` when it is not about
    lines.
    """

    patch: str
    path: str
    line: int | None
    why: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{self.patch}: {place}: {self.why}"


class RebaseConflict(RelforgeError):
    """The patch set does not fit the new base; ``conflicts`` says where."""

    def __init__(self, conflicts: tuple[Conflict, ...]) -> None:
        rest = len(conflicts) - _SHOWN
        more = [f"and {rest} more"] if rest > 0 else []
        patches = list(dict.fromkeys(conflict.patch for conflict in conflicts))
        super().__init__(
            f"patch {patches[0]} conflicts with the new base"
            if len(patches) == 1
            else f"{len(patches)} patches conflict with the new base",
            code=ExitCode.SOURCE,
            where=", ".join(patches[:3]) + (" ..." if len(patches) > 3 else ""),
            why="\n".join([*(str(conflict) for conflict in conflicts[:_SHOWN]), *more]),
            hint="nothing was written; make each of these anew on the new base (unpatch the "
            "patches before it there, edit, `relforge patch from-tree`), then rebase the others",
        )
        self.conflicts = conflicts

    def __reduce__(self) -> tuple[object, ...]:
        return RebaseConflict, (self.conflicts,)


class Conflicts:
    """All conflicts of a set, told at once: patches after one that conflicts are merged without it.

    A later patch to one of its files is left out, since nobody can tell what would come of it.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._files: set[bytes] = set()
        self.found: list[Conflict] = []

    def concern(self, before: str, after: str) -> bool:
        """Whether a patch touches a file of a patch that conflicts."""
        if not self.found:
            return False
        files = touched(self._git, before, after)
        if self._files.isdisjoint(files):
            return False
        self._files |= files
        return True

    def add(self, conflict: RebaseConflict, before: str, after: str) -> None:
        """Notes the conflicts of one patch."""
        self.found += conflict.conflicts
        self._files |= touched(self._git, before, after)


def touched(git: Git, before: str, after: str) -> set[bytes]:
    """The paths in which two trees differ."""
    names = ("-r", "-z", "--name-only", "--no-renames")
    return set(git.run("diff-tree", *names, before, after).stdout.split(b"\0")[:-1])


def merged(git: Git, patch: str, base: str, theirs: str, ours: str) -> str:
    """The tree of the new base with the patch in it. Raises RebaseConflict."""
    if base == ours:
        return theirs
    # Git 2.39's merge-tree takes commits and finds their common ancestor itself.
    ancestor = git.text("commit-tree", base, "-m", "before")
    sides = [
        git.text("commit-tree", tree, "-p", ancestor, "-m", which)
        for tree, which in ((ours, "new base"), (theirs, "patch"))
    ]
    done = git.run("merge-tree", "--write-tree", "-z", "--messages", *sides, check=False)
    tree, *rest = done.stdout.split(b"\0")
    if done.returncode == 0:
        return tree.decode()
    if done.returncode != 1:
        raise proc.failure(done, code=ExitCode.SOURCE, what=f"patch {patch} cannot be merged")
    raise RebaseConflict(tuple(_conflicts(git, patch, tree.decode(), sides[0], rest)))


def _conflicts(
    git: Git, patch: str, tree: str, ours: str, fields: list[bytes]
) -> Iterator[Conflict]:
    """From the rest of merge-tree's answer: entries, an empty field, messages."""
    at = fields.index(b"") + 1
    while at < len(fields) and fields[at]:
        count = int(fields[at])
        paths = fields[at + 1 : at + 1 + count]
        kind, message = (f.decode("utf-8", "replace") for f in fields[at + 1 + count :][:2])
        at += count + 3
        if not kind.startswith("CONFLICT"):
            continue
        if kind == "CONFLICT (contents)":
            for path in paths:
                lines = _conflicting_lines(git, tree, path, ours)
                for line, last in lines:
                    yield Conflict(patch, shown_path(path), line, _span(line, last))
                if not lines:
                    yield Conflict(patch, shown_path(path), None, "both sides changed it")
            continue
        why = re.sub(r"^CONFLICT \([^)]*\): ", "", message.strip())
        why = why.replace(ours, "the new base")
        why = re.sub(r"\b[0-9a-f]{40,64}\b", "the patch", why)
        yield Conflict(patch, shown_path(paths[0]) if paths else "", None, why)


def _span(line: int, last: int) -> str:
    if last < line:
        return "lines that the patch changes are gone here"
    return f"lines {line} to {last} are changed by both" if last > line else "changed by both"


def _conflicting_lines(git: Git, tree: str, path: bytes, ours: str) -> list[tuple[int, int]]:
    """First and last line of each conflict, counted in our side's file."""
    found = git.run(
        "ls-tree", "-z", tree, "--", f":(literal){path.decode('utf-8', 'surrogateescape')}"
    )
    oid = found.stdout.split(b"\t")[0].split(b" ")[-1].decode()
    result: list[tuple[int, int]] = []
    line, first, in_theirs = 1, 0, False
    for row in git.run("cat-file", "blob", oid).stdout.split(b"\n"):
        if row.startswith(b"<<<<<<< " + ours.encode()):
            first = line
        elif first and row.rstrip(b"\r") == b"=======":
            in_theirs = True
        elif first and row.startswith(b">>>>>>> "):
            result.append((first, line - 1))
            first, in_theirs = 0, False
        elif not in_theirs:
            line += 1
    return result
