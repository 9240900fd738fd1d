"""Writing a plain patch set: a new folder with patches and their series, complete or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write
from relforge.patching.series import SERIES, PlainPatches, check_patch_name, read_series
from relforge.patching.tree.marker import tree_around


def refuse_inside_tree(out: Path, option: str) -> None:
    """Raises RelforgeError (SOURCE) for a place inside a patched tree.

    Patches that lie there would be taken for the user's edits.
    """
    if (tree := tree_around(out)) is not None:
        raise RelforgeError(
            "the patch set would lie inside a patched tree",
            code=ExitCode.SOURCE,
            where=str(out),
            why=f"{tree} is one, and what lies in it counts as an edit of it",
            hint=f"name a folder outside of it with {option}",
        )


def refuse_existing(out: Path, option: str = "--out") -> None:
    """Raises RelforgeError (SOURCE) unless *out* is new or empty, and outside of patched trees."""
    refuse_inside_tree(out, option)
    try:
        free = not out.is_symlink() and (not out.exists() or not any(out.iterdir()))
    except NotADirectoryError:
        free = False
    if not free:
        raise RelforgeError(
            "the patch set would overwrite something",
            code=ExitCode.SOURCE,
            where=str(out),
            why="it exists already",
            hint=f"name a new folder with {option}",
        )


def write_set(
    folder: Path,
    patches: Iterable[tuple[str, bytes | Iterable[bytes]]],
    *,
    name: str,
    remarks: Sequence[str] = (),
) -> PlainPatches:
    """Writes patches and their series to the new *folder*, and reads them back.

    ``remarks`` become comments of the series. Raises RelforgeError (SOURCE; ENVIRONMENT).
    """
    lines = [f"# {remark}\n" for remark in remarks]
    try:
        folder.mkdir(parents=True)
        for patch, content in patches:
            wrong = check_patch_name(patch)
            if wrong:
                raise RelforgeError(
                    "a patch cannot be written under its name",
                    code=ExitCode.SOURCE,
                    where=patch,
                    why=wrong,
                )
            path = folder / patch
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                for chunk in [content] if isinstance(content, bytes) else content:
                    out.write(chunk)
            lines.append(f"{patch}\n")
        (folder / SERIES).write_text("".join(lines))
    except OSError as error:
        raise cannot_write(folder, error) from error
    return read_series(folder, name=name)


def put_set(fresh: Path, out: Path) -> None:
    """Renames a finished set to its place, a new or empty folder. Raises RelforgeError."""
    try:
        fresh.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error
