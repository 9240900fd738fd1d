"""The folder of a patched tree as it is now: what may be in it, and its files as git objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.gitio.entries import GITLINK, LINK, TreeEntry, refuse_unsafe
from relforge.patching.tree.apply import AppliedTree
from relforge.patching.tree.marker import FileEdit, Marker


def check_edits(folder: Path, marker: Marker, found: Sequence[FileEdit]) -> None:
    """Raises RelforgeError (SOURCE) unless the edits of a marked folder can become a patch."""
    if not found:
        raise RelforgeError(
            "there is nothing to make a patch of",
            code=ExitCode.SOURCE,
            where=str(folder),
            why="no file was changed since relforge wrote the folder",
        )
    special = [edit.path for edit in found if edit.after == "special"]
    if special:
        raise RelforgeError(
            "a patch cannot hold what is neither a file nor a link",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=", ".join(special[:5]),
            hint="remove it from the folder",
        )
    if marker.whitespace != "exact":
        raise RelforgeError(
            "the tree was made with its whitespace repaired",
            code=ExitCode.SOURCE,
            where=str(folder),
            why="a patch set gives exact trees only, so none gives this one",
            hint="unpatch without --whitespace fix, and edit there",
        )
    links = {path for path, was in marker.files.items() if was.startswith(f"{GITLINK} ")}
    filled = {link for edit in found for link in links.intersection(_folders_of(edit.path))}
    if filled:
        raise RelforgeError(
            "the folder of a submodule is not empty, and the tree holds nothing of it",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=", ".join(sorted(filled)),
            hint="move that out of the folder; to patch a submodule too, unpatch with it "
            "(--backend), and edit there",
        )
    refuse_unsafe(TreeEntry(os.fsdecode(edit.raw), "100644", "", None) for edit in found)


def _folders_of(path: str) -> Iterator[str]:
    """The path itself and each folder above it."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def edited_tree(applied: AppliedTree, folder: Path, found: Sequence[FileEdit], area: Path) -> str:
    """The folder's tree, its objects beside the applied ones. Raises RelforgeError (SOURCE)."""
    git = applied.git.with_index(area / "edited")
    git.run("read-tree", applied.tree)
    none = b"0" * len(applied.tree)
    # What goes first: a folder may stand where a file was.
    rows = [b"0 %b\t%b\0" % (none, e.raw) for e in found if e.before is not None]
    for edit, oid in zip(*_hashed(git, folder, [e for e in found if e.after]), strict=True):
        mode, _, expected = (edit.after or "").partition(" ")
        if oid != expected:
            raise RelforgeError(
                "the folder changed meanwhile",
                code=ExitCode.SOURCE,
                where=f"{folder}: {edit.path}",
                hint="run the same command again",
            )
        rows.append(b"%b %b\t%b\0" % (mode.encode(), oid.encode(), edit.raw))
    git.run("update-index", "-z", "--index-info", stdin=b"".join(rows))
    return git.text("write-tree")


def _hashed(git: Git, folder: Path, there: Sequence[FileEdit]) -> tuple[list[FileEdit], list[str]]:
    """Writes files and links as blobs; what git reads by name, one name a line, at once."""
    base = os.fsencode(folder.absolute()) + b"/"
    by_name = [e for e in there if not _is_link(e) and b"\n" not in base + e.raw]
    named = b"".join(base + edit.raw + b"\n" for edit in by_name)
    done = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=named)
    oids = done.text.split()
    others = [edit for edit in there if edit not in by_name]
    for edit in others:
        path = base + edit.raw
        data = os.readlink(path) if _is_link(edit) else Path(os.fsdecode(path)).read_bytes()  # noqa: PTH115
        oids.append(git.run("hash-object", "-w", "--stdin", stdin=data).text)
    return [*by_name, *others], oids


def _is_link(edit: FileEdit) -> bool:
    return (edit.after or "").startswith(f"{LINK} ")
