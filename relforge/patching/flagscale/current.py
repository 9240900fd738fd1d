"""The current layout: ``hardware/<device>/<backend>/`` with ``diff.yaml`` and patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.flagscale.early import base_named
from relforge.patching.flagscale.entry import EntryPatches, StoredFile
from relforge.patching.flagscale.found import Found
from relforge.patching.flagscale.history import commits_of, read_history
from relforge.patching.flagscale.names import (
    HISTORY,
    ROOT_BACKEND,
    folder_of,
    history_key,
)
from relforge.patching.flagscale.overlay import Laying
from relforge.patching.flagscale.parts import Part, parts_of
from relforge.patching.flagscale.repository import Repository
from relforge.patching.flagscale.submodules import Fetching, gitlink, graft_of, own_state
from relforge.patching.source import Graft


@dataclass(frozen=True)
class CurrentRequest:
    """What is asked for; ``backends`` are applied in this order.

    ``commit`` holds the entry (None: the history file says); ``backend_commits`` replaces what the
    entry says of a submodule; ``any_task`` takes an entry that is made for another task.
    ``as_checked_out`` takes submodules at the commit that the user's own ones stand on.
    """

    device: str
    backends: tuple[str, ...]
    tasks: tuple[str, ...]
    commit: str | None = None
    backend_commits: tuple[tuple[str, str], ...] = ()
    any_task: bool = False
    as_checked_out: bool = False


def find_current(repository: Repository, request: CurrentRequest, fetching: Fetching) -> Found:
    """The entry with its base and submodules. Raises RelforgeError (SOURCE, USAGE)."""
    commit, earlier = _entry_commit(repository, request, fetching)
    device, parts = parts_of(repository, request.device, request.backends, request.tasks, commit)
    wrong = _wrong_task(request, parts)
    if wrong is not None and not request.any_task:
        raise _other_task(repository, request, wrong, earlier)
    if wrong is not None:
        fetching.on_line(f"warning: {wrong.where} is {_made_for(wrong)}")
    base = _base(repository, commit, parts, fetching)
    grafts = []
    files = []
    for part in parts:
        for backend in part.together or (part.backend,):
            if backend != ROOT_BACKEND:
                graft = _graft(repository, base, part, backend, request, fetching)
                grafts += [graft] if graft is not None else []
        files += [
            StoredFile(f"{part.backend}/{row.path}", row, folder_of(part.backend))
            for row in part.patches
        ]
    git = repository.git
    where = f"{repository.shown}: hardware/{device} in {commit[:12]}"
    name = f"{device}/{history_key(request.backends)}@{commit[:12]}"
    return Found(
        device=device,
        patches=EntryPatches(name, where, tuple(files), git),
        git_dir=git.git_dir,
        base_commit=base,
        base_tree=git.tree_of(base),
        epoch=git.commit_epoch(base),
        grafts=tuple(grafts),
        laying=_laying(request, parts, fetching),
    )


def _laying(request: CurrentRequest, parts: Sequence[Part], fetching: Fetching) -> Laying | None:
    together = frozenset(one for part in parts for one in part.together)
    rooted = frozenset(part.backend for part in parts if part.may_be_rooted)
    if not together and not rooted:
        return None
    return Laying(
        fetching.home,
        always=frozenset() if request.as_checked_out else together,
        when_rooted=rooted,
        only_patched=request.as_checked_out,
        unfinished=bool(together),
        cancel=fetching.cancel,
    )


def _graft(
    repository: Repository,
    base: str,
    part: Part,
    backend: str,
    request: CurrentRequest,
    fetching: Fetching,
) -> Graft | None:
    """The backend's submodule; None where it may be left out."""
    own = part.description.backends_commit.get(backend)
    replaced = dict(request.backend_commits).get(backend)
    wanted = replaced or own
    if request.as_checked_out:
        wanted = own_state(repository, backend, fetching)
        if wanted is None and part.digits is not None:
            return None
        if wanted is None:
            raise RelforgeError(
                f"{folder_of(backend)} is not initialised",
                code=ExitCode.SOURCE,
                where=repository.shown,
                why="--no-init-submodule takes the submodule as the checkout has it",
                hint="leave --no-init-submodule out, or initialise it: "
                f"git -C {repository.shown} submodule update --init {folder_of(backend)}",
            )
    wanted = wanted or gitlink(repository, base, backend)
    if own and wanted != own:
        fetching.on_line(f"warning: {part.where} is made for {backend} {own[:12]}")
    return graft_of(repository, base, backend, wanted, fetching)


def _entry_commit(
    repository: Repository, request: CurrentRequest, fetching: Fetching
) -> tuple[str, tuple[str, ...]]:
    """The commit that holds the entry, and those before it in the history, newest first."""
    if request.commit is not None:
        return repository.resolve(request.commit), ()
    listed = repository.read_current(HISTORY)
    named: tuple[str, ...] = ()
    if listed is not None:
        named = commits_of(read_history(*listed), request.device, request.tasks, request.backends)
    if named:
        return repository.resolve(named[-1]), tuple(reversed(named[:-1]))
    head = repository.git.text("rev-parse", "--verify", f"{repository.head}^{{commit}}")
    fetching.on_line(
        f"{HISTORY} names no commit for {request.device}, {' '.join(request.tasks)}, "
        f"{history_key(request.backends)}: the entry is taken from {head[:12]}, the checkout's own"
    )
    return head, ()


def _wrong_task(request: CurrentRequest, parts: Sequence[Part]) -> Part | None:
    return next((p for p in parts if not set(request.tasks) <= set(p.description.task)), None)


def _made_for(part: Part) -> str:
    return f"made for {', '.join(part.description.task) or 'no task that it names'}"


def _other_task(
    repository: Repository, request: CurrentRequest, part: Part, earlier: Sequence[str]
) -> RelforgeError:
    hint = "ask for that task, or take it nevertheless with --any-task"
    for commit in earlier:
        try:
            _device, parts = parts_of(
                repository,
                request.device,
                request.backends,
                request.tasks,
                repository.resolve(commit),
            )
        except RelforgeError:
            continue
        if _wrong_task(request, parts) is None:
            hint = f"an earlier commit of the history fits: --commit {commit}\nor {hint}"
            break
    return RelforgeError(
        f"the entry is not made for {' and '.join(request.tasks)}",
        code=ExitCode.SOURCE,
        where=part.where,
        why=f"its {part.described_in} says it is {_made_for(part)}",
        hint=hint,
    )


def _base(repository: Repository, commit: str, parts: Sequence[Part], fetching: Fetching) -> str:
    """FlagScale's state below the patches: the newest where the backends' differ."""
    git = repository.git
    bases: dict[str, str] = {}
    for part in parts:
        if part.digits is not None:
            base = base_named(repository, part.digits, commit)
        else:
            base = repository.resolve(part.description.commit)
        if git.run("merge-base", "--is-ancestor", base, commit, check=False).returncode != 0:
            raise repository.unreachable(
                base, f"{part.where} names it as its base, but no history leads to it from there"
            )
        bases[part.backend] = base
    different = set(bases.values())
    if len(different) == 1:
        return different.pop()
    ordered = git.text("rev-list", "--topo-order", commit).splitlines()
    newest = min(different, key=ordered.index)
    listed = ", ".join(f"{backend} {base[:12]}" for backend, base in bases.items())
    fetching.on_line(
        f"warning: the backends' patches are made for different states of FlagScale ({listed}); "
        f"the newest is used, {newest[:12]}, as FlagScale's tool does"
    )
    return newest
