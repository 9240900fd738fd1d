"""``relforge patch rebase``: a patch set carried to a newer base, patch by patch, by git's merge.

Each patch is three trees: before it, after it, and the new base with all patches before it. Git
merges them (``git merge-tree``, merge-ort) without a checkout; what changed is the new patch, under
the old one's name and mail header.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relforge import proc
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.fromtree import diff_of, unproved
from relforge.patching.edits.writeset import write_set
from relforge.patching.mailbox import EncodedDiff, Mail, mails
from relforge.patching.series import PlainPatches
from relforge.patching.source import Diff, PatchSource, Trust
from relforge.patching.tree.apply import apply_patches, shown_path
from relforge.stage import CancelToken
from relforge.workarea import work_area

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
        super().__init__(
            f"patch {conflicts[0].patch} conflicts with the new base",
            code=ExitCode.SOURCE,
            where=conflicts[0].patch,
            why="\n".join([*(str(conflict) for conflict in conflicts[:_SHOWN]), *more]),
            hint="nothing was written; make this patch anew on the new base (unpatch the patches "
            "before it there, edit, `relforge patch from-tree`), then rebase the others",
        )
        self.conflicts = conflicts

    def __reduce__(self) -> tuple[object, ...]:
        return RebaseConflict, (self.conflicts,)


@dataclass(frozen=True)
class Rebased:
    """The new set, in a private folder that is gone when the block ends, and the tree it gives.

    ``dropped`` names patches that the new base already contains.
    """

    patches: PlainPatches
    base_tree: str
    tree: str
    dropped: tuple[str, ...]


@contextlib.contextmanager
def rebased(
    patches: PatchSource,
    *,
    git_dir: Path,
    base_tree: str,
    onto_tree: str,
    trust: Trust,
    home: Path,
    cancel: CancelToken | None = None,
) -> Iterator[Rebased]:
    """Carries a patch set from one tree of a repository to another, and proves the result.

    Raises RebaseConflict, RelforgeError (SOURCE): the set does not apply to ``base_tree``.
    """
    with work_area(home, "rebase") as area:
        with patches.stream(trust) as stream:
            read = [(diff.name, _mails_of(diff)) for diff in stream.diffs]
            name = stream.info.name
        steps = [(patch, mail) for patch, found in read for mail in found if mail.diff]
        old = apply_patches(
            git_dir,
            base_tree,
            (Diff(patch, mail.diff) for patch, mail in steps),
            object_dir=area / "objects",
            work=area,
            per_patch=True,
            cancel=cancel,
        )
        diffs: list[bytes] = []
        before, ours = base_tree, onto_tree
        for (patch, _mail), after in zip(steps, old.trees, strict=True):
            merged = _merged(old.git, patch, before, after, ours)
            diffs.append(diff_of(old.git, ours, merged))
            before, ours = after, merged
        contents: dict[str, bytes] = {patch: b"" for patch, _ in read}
        for (patch, mail), diff in zip(steps, diffs, strict=True):
            contents[patch] += _as_mail(mail, diff) if diff else b""
        kept = [(patch, content) for patch, content in contents.items() if content]
        if not kept:
            raise RelforgeError(
                "nothing is left of the patch set",
                code=ExitCode.SOURCE,
                why="the new base contains every one of its changes",
                hint="use the new base without it",
            )
        new = write_set(area / "set", kept, name=name)
        proved = _proof(git_dir, onto_tree, new, area / "proof", cancel)
        if proved != ours:
            raise unproved(ours, proved)
        dropped = tuple(patch for patch, content in contents.items() if not content)
        yield Rebased(new, onto_tree, ours, dropped)


def _mails_of(diff: Diff) -> tuple[Mail, ...]:
    if diff.folder:
        raise RelforgeError(
            "the patches are for several repositories",
            code=ExitCode.SOURCE,
            where=diff.name,
            why=f"it is for the submodule {diff.folder}",
            hint="rebase the patches of each repository on their own",
        )
    content = diff.content if isinstance(diff.content, bytes) else b"".join(diff.content)
    try:
        return mails(content)
    except EncodedDiff as error:
        raise RelforgeError(
            f"patch {diff.name} cannot be read",
            code=ExitCode.SOURCE,
            where=diff.name,
            why="its diff is encoded (base64 or quoted-printable)",
            hint="ask the patch's maker for one that git format-patch wrote",
        ) from error


def _as_mail(mail: Mail, diff: bytes) -> bytes:
    head = mail.head
    if not head:
        return diff
    if not head.endswith(b"\n"):
        head += b"\n"
    return head + (b"---\n\n" if mail.is_mail else b"") + diff


def _merged(git: Git, patch: str, base: str, theirs: str, ours: str) -> str:
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


def _proof(
    git_dir: Path, tree: str, new: PlainPatches, work: Path, cancel: CancelToken | None
) -> str:
    work.mkdir()
    done = apply_patches(
        git_dir,
        tree,
        (Diff(patch.name, new.chunks(patch)) for patch in new.patch_set.patches),
        object_dir=work / "objects",
        work=work,
        cancel=cancel,
    )
    return done.tree
