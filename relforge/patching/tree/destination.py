"""In which form a patched tree is wanted: a folder, a git worktree, a tar archive."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle.header import Origin
from relforge.patching.source import Recipe
from relforge.patching.tree.folder import Unpatched, unpatch_to_folder
from relforge.patching.tree.making import Tree
from relforge.patching.tree.tarball import unpatch_to_stream, unpatch_to_tar
from relforge.patching.tree.worktree import unpatch_to_worktree


@dataclass(frozen=True)
class Destination:
    """``worktree``: of ``repository``, or where that is ``None`` of the recipe's own.

    ``tar`` is a new file, or ``-`` for the standard output.
    """

    worktree: bool = False
    repository: Path | None = None
    tar: Path | None = None
    discard_edits: bool = False

    @property
    def on_stdout(self) -> bool:
        """Whether the tree itself goes to the standard output, so that nothing else may."""
        return str(self.tar) == "-"


def write_tree(
    folder: Path,
    recipe: Recipe,
    to: Destination,
    *,
    home: Path,
    epoch: int,
    origin: Origin | None = None,
    cancel: CancelToken | None = None,
) -> Unpatched:
    """Writes one tree as it is wanted; *folder* is not used for an archive.

    Raises RelforgeError (USAGE, SOURCE, ENVIRONMENT).
    """
    if to.tar is not None:
        return _archive(to.tar, recipe, home=home, epoch=epoch, cancel=cancel)
    if to.worktree:
        return unpatch_to_worktree(
            folder,
            recipe,
            repository=to.repository or recipe.git_dir,
            home=home,
            epoch=epoch,
            origin=origin,
            cancel=cancel,
        )
    return unpatch_to_folder(
        folder,
        recipe,
        home=home,
        epoch=epoch,
        origin=origin,
        discard_edits=to.discard_edits,
        cancel=cancel,
    )


def one_archive(to: Destination, trees: int) -> None:
    """Raises RelforgeError (USAGE) when several trees are to go into one archive."""
    if to.tar is not None and trees != 1:
        raise RelforgeError(
            "an archive holds one tree",
            code=ExitCode.USAGE,
            why=f"{trees} trees would be written",
            hint="name one device and one patched source, or write folders with --dir",
        )


def _archive(
    tar: Path, recipe: Recipe, *, home: Path, epoch: int, cancel: CancelToken | None
) -> Unpatched:
    if str(tar) != "-":
        tree = unpatch_to_tar(tar, recipe, home=home, epoch=epoch, cancel=cancel)
    elif sys.stdout.isatty():
        raise RelforgeError(
            "a tar archive is nothing for a terminal",
            code=ExitCode.USAGE,
            hint="redirect it: relforge unpatch --tar - ... | docker build -",
        )
    else:
        tree = _streamed(recipe, home=home, epoch=epoch, cancel=cancel)
    return Unpatched(folder=tar, tree=tree, status="written", excluded_in=None)


def _streamed(recipe: Recipe, *, home: Path, epoch: int, cancel: CancelToken | None) -> Tree:
    """The archive on stdout; a reader that goes away early has half of it, and is told."""
    if sys.stdout.name == os.devnull:  # the program was started with stdout closed
        raise _no_reader("stdout is closed")
    try:
        tree = unpatch_to_stream(sys.stdout.buffer, recipe, home=home, epoch=epoch, cancel=cancel)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise _no_reader("its reader went away before its end") from error
    return tree


def _no_reader(why: str) -> RelforgeError:
    return RelforgeError(
        "the archive was not written whole",
        code=ExitCode.ENVIRONMENT,
        where="stdout",
        why=why,
        hint="look at the program that reads it, or write a file: --tar FILE",
    )
