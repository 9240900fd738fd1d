"""Entries of a git repository in a tree's marker: recorded file by file, and found again.

Each file is known by git's hash of what is stored, so that the entry is found in any clone that
holds it, and nothing else is ever taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, TreeEntry
from relforge.patching.flagscale.entry import EntryPatches, StoredFile
from relforge.patching.flagscale.overlay import OverlaidPatches
from relforge.patching.source import Recipe
from relforge.patching.stored import StoredPatches, read_stored
from relforge.patching.tree.marker import Applied, Entry, EntryFile, LaidOver, blob_hash

_BELOW_REPOSITORY = 4  # hardware/<device>/<commit8>/<file>


def entry_of(recipe: Recipe) -> Entry | None:
    """How a marker names the entry that a recipe applies; None for any other patch set."""
    patches = recipe.patches
    laid_over = None
    if isinstance(patches, OverlaidPatches):
        laying, patches = patches.laying, patches.patches
        laid_over = LaidOver(
            always=tuple(sorted(laying.always)),
            when_rooted=tuple(sorted(laying.when_rooted)),
            only_patched=laying.only_patched,
            unfinished=laying.unfinished,
        )
    if isinstance(patches, StoredPatches) and patches.git is not None:
        patches = read_stored(patches.git, patches.place, name=patches.name)
    if not isinstance(patches, EntryPatches) or patches.git is None:
        return None
    digits = len(recipe.base_tree)
    return Entry(
        repository=str(patches.git.git_dir.absolute()),
        files=tuple(
            EntryFile(
                name=file.name,
                folder=file.folder,
                blob=blob_hash(file.at.read_bytes(), digits)
                if isinstance(file.at, Path)
                else file.at.oid,
                path=str(file.at.absolute()) if isinstance(file.at, Path) else None,
            )
            for file in patches.files
        ),
        laid_over=laid_over,
    )


def find_entry(carried: Applied, entry: Entry, places: Iterable[Path]) -> EntryPatches:
    """The entry that a marker names, from the first of these repositories that has it whole.

    ``places`` are git folders; the one that the marker names is tried behind them. Raises
    RelforgeError (SOURCE) that says what is missing.
    """
    tried = list(dict.fromkeys((*places, Path(entry.repository))))
    there = [place for place in tried if (place / "HEAD").is_file()]
    missing: Sequence[EntryFile] = entry.files
    for place in there:
        git = Git(place)
        found = _stored(git, entry.files)
        lacking = [file for file in entry.files if file not in found]
        if not lacking:
            files = tuple(found[file] for file in entry.files)
            return EntryPatches(carried.name, carried.where, files, git)
        missing = min(missing, lacking, key=len)
    names = ", ".join(file.name for file in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    raise RelforgeError(
        "the entry that the tree was made with is not at hand",
        code=ExitCode.SOURCE,
        where=carried.where,
        why=f"there is no repository at {', '.join(map(str, tried))}"
        if not there
        else f"{', '.join(map(str, there))} lacks, as the marker names it: {names}{more}",
        hint=f"name a clone that holds {carried.name} with --repo (fetch there first, if it is old)"
        ", or the very patches with --patches",
    )


def _stored(git: Git, files: Sequence[EntryFile]) -> dict[EntryFile, StoredFile]:
    asked = "".join(f"{file.blob}\n" for file in files).encode()
    answers = git.run("cat-file", "--batch-check", stdin=asked).text.splitlines()
    found: dict[EntryFile, StoredFile] = {}
    for file, answer in zip(files, answers, strict=True):
        _oid, kind, *size = answer.split()
        at: TreeEntry | Path | None = _in_folder(git, file)
        if at is None and kind == "blob":
            at = TreeEntry(file.name, "100644", file.blob, int(size[0]))
        if at is not None:
            found[file] = StoredFile(file.name, at, file.folder)
    return found


def _in_folder(git: Git, file: EntryFile) -> Path | None:
    """A file of a working tree, where it lay or in this repository's, if it is still the same."""
    if file.path is None:
        return None
    was = Path(file.path)
    moved = git.git_dir.parent.joinpath(*was.parts[-_BELOW_REPOSITORY:])
    for path in (moved, was):
        if path.is_file() and blob_hash(path.read_bytes(), len(file.blob)) == file.blob:
            return path
    return None
