"""FlagScale's own extension of a backend, without any device: for those who work on FlagScale.

Below ``flagscale/backends/<backend>`` lies one patch per changed file of the submodule, or (until
September 2025) whole files to lay over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.flagscale.entry import EntryPatches, StoredFile
from relforge.patching.flagscale.found import Found
from relforge.patching.flagscale.names import (
    PATCH,
    ROOT_BACKEND,
    extension_of,
    extensions_of,
    folder_of,
    history_key,
)
from relforge.patching.flagscale.overlay import DELETED, Laying
from relforge.patching.flagscale.repository import Repository
from relforge.patching.flagscale.submodules import Fetching, gitlink, graft_of, own_state
from relforge.patching.source import Graft

_TOOL = "tools/patch/unpatch.py"


@dataclass(frozen=True)
class DevelopmentRequest:
    """``commit`` None: what the checkout stands on, with the extension as its files are now.

    ``extension`` False leaves the submodules as they come. ``as_checked_out`` takes those that the
    checkout has initialised at the commit that they stand on.
    """

    backends: tuple[str, ...]
    commit: str | None = None
    backend_commits: tuple[tuple[str, str], ...] = ()
    extension: bool = True
    as_checked_out: bool = False


def find_development(
    repository: Repository, request: DevelopmentRequest, fetching: Fetching
) -> Found:
    """The state of FlagScale with its extensions. Raises RelforgeError (SOURCE, USAGE)."""
    if ROOT_BACKEND in request.backends:
        raise RelforgeError(
            f"{ROOT_BACKEND} is no backend that it could extend itself",
            code=ExitCode.USAGE,
            why="without a device only submodules are unpatched",
            hint="add --device-type and --task, or leave it out of --backend",
        )
    git = repository.git
    if request.commit is not None:
        base = repository.resolve(request.commit)
    else:
        base = git.text("rev-parse", "--verify", f"{repository.head}^{{commit}}")
    grafts = tuple(_graft(repository, base, one, request, fetching) for one in request.backends)
    files: list[StoredFile] = []
    over: set[str] = set()
    for backend in request.backends if request.extension else ():
        if lays_whole_files(repository, base):
            over.add(backend)
            _warn_of_changes(repository, request, backend, fetching)
        else:
            files += _patches(repository, base, backend, request)
    where = f"{repository.shown}: {extension_of(history_key(request.backends))} in {base[:12]}"
    return Found(
        device="",
        patches=EntryPatches(
            f"{history_key(request.backends)}@{base[:12]}", where, tuple(files), git
        ),
        git_dir=git.git_dir,
        base_commit=base,
        base_tree=git.tree_of(base),
        epoch=git.commit_epoch(base),
        grafts=grafts,
        laying=Laying(fetching.home, always=frozenset(over), cancel=fetching.cancel)
        if over
        else None,
    )


def _graft(
    repository: Repository,
    base: str,
    backend: str,
    request: DevelopmentRequest,
    fetching: Fetching,
) -> Graft:
    wanted = dict(request.backend_commits).get(backend)
    if wanted is None and request.as_checked_out:
        wanted = own_state(repository, backend, fetching)
    return graft_of(
        repository, base, backend, wanted or gitlink(repository, base, backend), fetching
    )


def lays_whole_files(repository: Repository, base: str) -> bool:
    """Which of the two it is, the tool of that very state says: only one kind knows the list."""
    return DELETED.encode() in (repository.read(base, _TOOL) or b"")


def _patches(
    repository: Repository, base: str, backend: str, request: DevelopmentRequest
) -> list[StoredFile]:
    folder = extension_of(backend)
    target = folder_of(backend)
    lying = repository.work_tree / folder if repository.work_tree is not None else None
    if request.commit is None and lying is not None and lying.is_dir():
        found = sorted(path for path in lying.rglob(f"*{PATCH}") if path.is_file())
        return [
            StoredFile(f"{backend}/{path.relative_to(lying).as_posix()}", path, target)
            for path in found
        ]
    rows = sorted(repository.listing(base, folder), key=lambda row: row.path)
    return [
        StoredFile(f"{backend}/{row.path}", row, target) for row in rows if row.path.endswith(PATCH)
    ]


def _warn_of_changes(
    repository: Repository, request: DevelopmentRequest, backend: str, fetching: Fetching
) -> None:
    if request.commit is not None or repository.work_tree is None:
        return
    specs = [f":(top,literal){one}" for one in extensions_of(backend)]
    done = repository.git.with_index(None, work_tree=repository.work_tree).run(
        "status", "--porcelain", "--", *specs, check=False
    )
    if done.stdout:
        first = done.text.splitlines()[0].split(maxsplit=1)[1]
        fetching.on_line(f"warning: changes that are not committed are not used, as in {first}")
