"""The current layout: ``hardware/<device>/<backend>/`` with ``diff.yaml`` and patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import TreeEntry
from relforge.manifest.project import normalised
from relforge.patching.flagscale.diff_yaml import DIFF_YAML, DiffYaml, read_diff_yaml
from relforge.patching.flagscale.entry import EntryPatches, StoredFile, is_patch
from relforge.patching.flagscale.found import Found
from relforge.patching.flagscale.history import commits_of, read_history
from relforge.patching.flagscale.names import (
    HISTORY,
    ROOT_BACKEND,
    folder_of,
    history_key,
    matching,
)
from relforge.patching.flagscale.repository import Repository
from relforge.patching.flagscale.submodules import Fetching, gitlink, graft_of


@dataclass(frozen=True)
class CurrentRequest:
    """What is asked for; ``backends`` are applied in this order.

    ``commit`` holds the entry (None: the history file says); ``backend_commits`` replaces what the
    entry says of a submodule; ``any_task`` takes an entry that is made for another task.
    """

    device: str
    backends: tuple[str, ...]
    tasks: tuple[str, ...]
    commit: str | None = None
    backend_commits: tuple[tuple[str, str], ...] = ()
    any_task: bool = False


@dataclass(frozen=True)
class _Part:
    """One backend's folder of the entry."""

    backend: str
    where: str
    description: DiffYaml
    patches: tuple[TreeEntry, ...]


def find_current(repository: Repository, request: CurrentRequest, fetching: Fetching) -> Found:
    """The entry with its base and submodules. Raises RelforgeError (SOURCE, USAGE)."""
    commit, earlier = _entry_commit(repository, request, fetching)
    device, parts = _parts(repository, request, commit)
    wrong = _wrong_task(request, parts)
    if wrong is not None and not request.any_task:
        raise _other_task(repository, request, wrong, earlier)
    if wrong is not None:
        fetching.on_line(f"warning: {wrong.where} is {_made_for(wrong)}")
    base = _base(repository, commit, parts, fetching)
    replaced = dict(request.backend_commits)
    grafts = []
    files = []
    for part in parts:
        if part.backend != ROOT_BACKEND:
            own = part.description.backends_commit.get(part.backend)
            wanted = replaced.get(part.backend) or own or gitlink(repository, base, part.backend)
            if own and wanted != own:
                fetching.on_line(f"warning: {part.where} is made for {part.backend} {own[:12]}")
            grafts.append(graft_of(repository, base, part.backend, wanted, fetching))
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
    )


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


def _parts(
    repository: Repository, request: CurrentRequest, commit: str
) -> tuple[str, tuple[_Part, ...]]:
    where = f"{repository.shown}: hardware in {commit[:12]}"
    there = {
        name: repository.folders(commit, f"hardware/{name}")
        for name in repository.folders(commit, "hardware")
        if normalised(name) == normalised(request.device)
    }
    fitting = [name for name, found in there.items() if set(request.backends) <= set(found)]
    device = matching(request.device, fitting or there, where=where)
    if device is None:
        raise RelforgeError(
            f"there is no entry of {request.device}",
            code=ExitCode.SOURCE,
            where=where,
            why=f"devices there: {', '.join(repository.folders(commit, 'hardware')) or 'none'}",
            hint="correct --device-type, or name the commit that holds the entry with --commit",
        )
    parts = []
    for backend in request.backends:
        folder = f"hardware/{device}/{backend}"
        part_where = f"{repository.shown}: {folder} in {commit[:12]}"
        rows = repository.listing(commit, folder)
        if not rows:
            raise RelforgeError(
                f"{device} has no entry for {backend}",
                code=ExitCode.SOURCE,
                where=part_where,
                why=f"it has {', '.join(there[device]) or 'none'}",
                hint="correct --backend, or name the commit that holds the entry with --commit",
            )
        parts.append(_part(repository, device, backend, rows, part_where))
    return device, tuple(parts)


def _part(
    repository: Repository, device: str, backend: str, rows: Sequence[TreeEntry], where: str
) -> _Part:
    by_path = {row.path: row for row in rows}
    patches = tuple(by_path[path] for path in sorted(by_path) if is_patch(path))
    if DIFF_YAML not in by_path:
        raise RelforgeError(
            f"the entry has no {DIFF_YAML}",
            code=ExitCode.SOURCE,
            where=where,
            why="nothing says which state of FlagScale it is made for",
            hint="name a commit with a whole entry: --commit",
        )
    if not patches:
        raise RelforgeError(
            "the entry is empty",
            code=ExitCode.SOURCE,
            where=where,
            why="it holds no *.patch and no *.patch.encrypted",
            hint="name a commit with a whole entry: --commit",
        )
    ((_, data),) = repository.git.blobs([by_path[DIFF_YAML]])
    description = read_diff_yaml(data, f"{where}: {DIFF_YAML}")
    made_for = description.device_type
    if made_for is not None and normalised(made_for) != normalised(device):
        raise RelforgeError(
            "the entry is made for another device",
            code=ExitCode.SOURCE,
            where=f"{where}: {DIFF_YAML}",
            why=f"its device_type is {made_for}",
            hint=f"ask for {made_for}, or have the entry corrected",
        )
    return _Part(backend, where, description, patches)


def _wrong_task(request: CurrentRequest, parts: Sequence[_Part]) -> _Part | None:
    return next((p for p in parts if not set(request.tasks) <= set(p.description.task)), None)


def _made_for(part: _Part) -> str:
    return f"made for {', '.join(part.description.task) or 'no task that it names'}"


def _other_task(
    repository: Repository, request: CurrentRequest, part: _Part, earlier: Sequence[str]
) -> RelforgeError:
    hint = "ask for that task, or take it nevertheless with --any-task"
    for commit in earlier:
        try:
            _device, parts = _parts(repository, request, repository.resolve(commit))
        except RelforgeError:
            continue
        if _wrong_task(request, parts) is None:
            hint = f"an earlier commit of the history fits: --commit {commit}\nor {hint}"
            break
    return RelforgeError(
        f"the entry is not made for {' and '.join(request.tasks)}",
        code=ExitCode.SOURCE,
        where=part.where,
        why=f"its {DIFF_YAML} says it is {_made_for(part)}",
        hint=hint,
    )


def _base(repository: Repository, commit: str, parts: Sequence[_Part], fetching: Fetching) -> str:
    """FlagScale's state below the patches: the newest where the backends' differ."""
    git = repository.git
    bases: dict[str, str] = {}
    for part in parts:
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
