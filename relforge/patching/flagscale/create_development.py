"""Keeping what was changed in a submodule as FlagScale's own extension of that backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.flagscale.create_current import (
    NewEntry,
    part_of,
    patches_of,
    refuse_uncommitted,
)
from relforge.patching.flagscale.create_legacy import Created
from relforge.patching.flagscale.development import lays_whole_files
from relforge.patching.flagscale.names import PATCH, ROOT_BACKEND, extension_of
from relforge.patching.flagscale.repository import Repository
from relforge.patching.flagscale.writing import NewFile, put_folder
from relforge.workarea import work_area


def create_development(
    repository: Repository,
    backends: Sequence[str],
    *,
    untracked: bool,
    replace: bool,
    out: Path,
    home: Path,
    on_line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> tuple[Created, ...]:
    """Writes ``flagscale/backends/<backend>/<path>.patch`` below *out*, one for each changed file.

    The base is the commit that FlagScale's HEAD pins. Files there that are no patches stay; patches
    that git does not hold as they are go away only with ``replace``. Raises RelforgeError (SOURCE,
    USAGE); then nothing is written.
    """
    _check(repository, backends)
    assert repository.work_tree is not None
    head = repository.git.text("rev-parse", "--verify", f"{repository.head}^{{commit}}")
    entry = NewEntry(
        device="", backends=tuple(backends), tasks=(), commit=head, untracked=untracked
    )
    parts = [part_of(repository, repository.work_tree, entry, one, head) for one in backends]
    folders = [out / extension_of(one) for one in backends]
    for folder in folders:
        if folder.exists() and not replace:
            refuse_uncommitted(repository, folder, hint="\nor replace it nevertheless: --replace")
    done = []
    with work_area(home, "patch") as area:
        made = []
        for part in parts:
            room = area / part.backend
            room.mkdir(mode=0o700)
            made.append(patches_of(part, room, entry, None, on_line, cancel))
        for part, folder, (files, tree) in zip(parts, folders, made, strict=True):
            kept = _kept(folder, {file.name for file in files})
            put_folder(area, folder, [*files, *kept], keys=None, replace=True)
            paths = tuple(folder / file.name for file in files)
            done.append(Created("", part.base, tree, folder, paths, sealed=False))
    return tuple(done)


def _check(repository: Repository, backends: Sequence[str]) -> None:
    if ROOT_BACKEND in backends:
        raise RelforgeError(
            f"{ROOT_BACKEND} is no backend that it could extend itself",
            code=ExitCode.USAGE,
            hint="add --device-type, --commit and --task, or leave it out of --backend",
        )
    if repository.work_tree is None:
        raise RelforgeError(
            "what is kept is the state of a working tree, and this repository has none",
            code=ExitCode.USAGE,
            where=repository.shown,
            hint="name your clone: --repo PATH",
        )
    if lays_whole_files(repository, repository.head):
        raise RelforgeError(
            "this state of FlagScale keeps whole files of its backends, no patches",
            code=ExitCode.SOURCE,
            where=repository.shown,
            why="its own tools would copy the patches into the submodule as files",
            hint="check out a state of September 2025 or later",
        )


def _kept(folder: Path, new: set[str]) -> list[NewFile]:
    """What lies there and is no patch, a README for instance."""
    return [
        NewFile(name, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(PATCH)
        if (name := path.relative_to(folder).as_posix()) not in new
    ]
