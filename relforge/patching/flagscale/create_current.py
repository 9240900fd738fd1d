"""Making an entry of the current layout: one patch per changed file, and ``diff.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.flagscale.create_legacy import Created
from relforge.patching.flagscale.diff_yaml import (
    DIFF_YAML,
    DiffYaml,
    read_diff_yaml,
    write_diff_yaml,
)
from relforge.patching.flagscale.history import read_history, with_commit, write_history
from relforge.patching.flagscale.keypair import KeyPair
from relforge.patching.flagscale.names import (
    HISTORY,
    PATCH,
    ROOT_BACKEND,
    SEALED,
    check_new_device,
    extension_of,
    folder_of,
)
from relforge.patching.flagscale.repository import Repository, submodule_at
from relforge.patching.flagscale.submodules import gitlink, own_repositories
from relforge.patching.flagscale.workshop import Workshop, applied, not_proven
from relforge.patching.flagscale.writing import NewFile, put_folder
from relforge.patching.source import Diff
from relforge.workarea import work_area

_WHOLE = "diff"


@dataclass(frozen=True)
class NewEntry:
    """What is published, and what its description says.

    ``commit`` is FlagScale's base; ``backend_commits`` and ``versions`` are by backend, where they
    are not what the repository says.
    """

    device: str
    backends: tuple[str, ...]
    tasks: tuple[str, ...]
    commit: str
    models: tuple[str, ...] = ()
    contact: str = ""
    backend_commits: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    untracked: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Part:
    """One backend's repository, and the commit that what lies there is compared with."""

    backend: str
    git: Git
    work_tree: Path
    base: str
    excluded: tuple[str, ...]


def create_current(
    repository: Repository,
    entry: NewEntry,
    *,
    keys: KeyPair | None,
    out: Path,
    home: Path,
    on_line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> tuple[Created, ...]:
    """Writes ``hardware/<device>/<backend>/`` below *out* for every backend.

    What is published is the state of the working trees' tracked files. Raises RelforgeError
    (SOURCE, USAGE); then nothing is written.
    """
    check_new_device(entry.device, legacy=False)
    if repository.work_tree is None:
        raise RelforgeError(
            "what is published is the state of a working tree, and this repository has none",
            code=ExitCode.USAGE,
            where=repository.shown,
            hint="name your clone: --repo PATH",
        )
    base = repository.resolve(entry.commit)
    parts = [part_of(repository, repository.work_tree, entry, one, base) for one in entry.backends]
    description = _description(entry, base, parts)
    for part in parts:
        _refuse_existing(repository, entry, part.backend, out)
    made: list[tuple[Part, list[NewFile], str]] = []
    with work_area(home, "patch") as area:
        for part in parts:
            room = area / part.backend
            room.mkdir(mode=0o700)
            files, tree = patches_of(part, room, entry, keys, on_line, cancel)
            made.append((part, [*files, NewFile(DIFF_YAML, description)], tree))
        done = []
        for part, files, tree in made:
            folder = out / "hardware" / entry.device / part.backend
            put_folder(area, folder, files, keys=keys, replace=entry.replace)
            paths = tuple(folder / file.name for file in files)
            done.append(Created(entry.device, part.base, tree, folder, paths, keys is not None))
    return tuple(done)


def add_to_history(
    repository: Repository,
    device: str,
    tasks: Sequence[str],
    backends: Sequence[str],
    commit: str,
    *,
    out: Path,
) -> NewFile:
    """The history file with the commit that holds an entry. Raises RelforgeError (SOURCE).

    The commit must have the folders that it is named for.
    """
    full = repository.resolve(commit)
    for backend in backends:
        if not repository.listing(full, f"hardware/{device}/{backend}"):
            raise RelforgeError(
                f"that commit has no entry of {device} for {backend}",
                code=ExitCode.SOURCE,
                where=f"{repository.shown}: {full[:12]}",
                hint="commit the entry first, then name that commit",
            )
    path = out / HISTORY
    listed = (path.read_bytes(), str(path)) if path.is_file() else None
    listed = listed or repository.read_current(HISTORY)
    history = read_history(*listed) if listed else {}
    return NewFile(HISTORY, write_history(with_commit(history, device, tasks, backends, full)))


def part_of(
    repository: Repository, work_tree: Path, entry: NewEntry, backend: str, base: str
) -> Part:
    """A backend of the user's clone. Raises RelforgeError (SOURCE) when it is not checked out."""
    if backend == ROOT_BACKEND:
        others = [extension_of(one) for one in entry.backends if one != ROOT_BACKEND]
        excluded = ("third_party", "hardware", *others)
        return Part(backend, repository.git, work_tree, base, excluded)
    path = folder_of(backend)
    declared = submodule_at(repository, repository.head, path)
    found = own_repositories(repository, backend, declared.name if declared else path)
    if not found or not (work_tree / path / ".git").exists():
        raise RelforgeError(
            f"{backend} is not checked out",
            code=ExitCode.SOURCE,
            where=str(work_tree / path),
            why="what is published is what differs there from its base",
            hint=f"git -C {work_tree} submodule update --init {path}",
        )
    git = Git(found[-1], cancel=repository.git.cancel)
    named = dict(entry.backend_commits).get(backend)
    inner = Repository(git, work_tree / path, "HEAD", str(work_tree / path))
    pinned = inner.resolve(named or gitlink(repository, repository.head, backend))
    return Part(backend, git, work_tree / path, pinned, ())


def _description(entry: NewEntry, base: str, parts: Sequence[Part]) -> bytes:
    commits = {part.backend: part.base for part in parts if part.backend != ROOT_BACKEND}
    stated = dict(entry.versions)
    return write_diff_yaml(
        DiffYaml(
            commit=base,
            device_type=entry.device,
            task=entry.tasks,
            models=entry.models,
            contact=entry.contact,
            backends_commit=commits,
            backends_version={
                part.backend: stated.get(part.backend, part.base[:12]) for part in parts
            },
        )
    )


def _refuse_existing(repository: Repository, entry: NewEntry, backend: str, out: Path) -> None:
    folder = out / "hardware" / entry.device / backend
    if not folder.exists():
        return
    if not entry.replace:
        description = folder / DIFF_YAML
        task = "no task that it names"
        if description.is_file():
            task = ", ".join(read_diff_yaml(description.read_bytes(), str(description)).task)
        raise RelforgeError(
            f"{entry.device} has an entry for {backend} already",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=f"it is for {task}; a device has one folder for a backend, whatever the task",
            hint="replace it with --replace (git keeps the old one in its history)",
        )
    refuse_uncommitted(repository, folder)


def refuse_uncommitted(repository: Repository, folder: Path, *, hint: str = "") -> None:
    """Raises RelforgeError (SOURCE) when replacing a folder would lose what git does not hold."""
    if repository.work_tree is not None and folder.is_relative_to(repository.work_tree):
        inside = folder.relative_to(repository.work_tree).as_posix()
        worker = Git(repository.git.git_dir, work_tree=repository.work_tree)
        done = worker.run(
            *("status", "--porcelain", "--ignored", "-z", "--", f":(top,literal){inside}"),
            cwd=repository.work_tree,
        )
        if done.stdout:
            raise RelforgeError(
                "the folder that is there holds something that git does not",
                code=ExitCode.SOURCE,
                where=str(folder),
                why="replacing it would lose that",
                hint=f"git -C {repository.work_tree} status -- {inside}{hint}",
            )


def patches_of(
    part: Part,
    room: Path,
    entry: NewEntry,
    keys: KeyPair | None,
    on_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> tuple[list[NewFile], str]:
    """The patches of one backend, proven, and the tree that they give."""
    base_tree = part.git.tree_of(part.base)
    shop = Workshop.at(room / "shop", part.git, base_tree, cancel)
    state, others = shop.state_of(part.work_tree, part.excluded, untracked=entry.untracked)
    wanted = state
    if part.excluded:
        wanted = shop.with_paths_of(state, base_tree, part.excluded)
    if others and not entry.untracked:
        listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if others[5:] else "")
        on_line(
            f"not published, because git does not track them: {listed}\n"
            f"      (what belongs to the patch: git -C {part.work_tree} add FILE; all: --untracked)"
        )
    changes = shop.changed(base_tree, wanted)
    if not changes:
        raise RelforgeError(
            f"nothing is changed in {part.backend}",
            code=ExitCode.SOURCE,
            where=str(part.work_tree),
            why=f"its tracked files are those of {part.base[:12]}",
            hint="leave it out of --backend, or add what you changed: git add FILE",
        )
    shop.refuse_private_keys(changes)
    diffs = _per_file(shop, base_tree, wanted, changes)
    if diffs is not None and _independent(part, diffs, base_tree, wanted, room, cancel):
        return _named(diffs, keys), wanted
    whole = [(_WHOLE, _diff(shop, base_tree, wanted))]
    got = applied(
        part.git, base_tree, [Diff("diff.patch", whole[0][1])], room / "whole", cancel=cancel
    )
    if got.tree != wanted:
        raise not_proven(wanted, got.tree)
    on_line(f"{part.backend}: its files depend on each other, so that they are one diff.patch")
    return _named(whole, keys), wanted


def _named(diffs: Sequence[tuple[str, bytes]], keys: KeyPair | None) -> list[NewFile]:
    end = SEALED if keys else PATCH
    return [NewFile(f"{path}{end}", content) for path, content in diffs]


def _diff(shop: Workshop, before: str, after: str) -> bytes:
    return shop.git.run(
        *("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff"),
        *("--no-textconv", before, after),
    ).stdout


def _per_file(
    shop: Workshop, before: str, after: str, changes: Sequence[tuple[str, str, str]]
) -> list[tuple[str, bytes]] | None:
    """The diff of each file; None when the names of their patches would collide."""
    text = b"\n" + _diff(shop, before, after)
    chunks = [b"diff --git " + chunk + b"\n" for chunk in text.split(b"\ndiff --git ")[1:]]
    chunks[-1] = chunks[-1][:-1]
    result = []
    at = 0
    for status, _blob, path in changes:
        count = 2 if status == "T" else 1  # a file that becomes a link is removed, then made
        result.append((path, b"".join(chunks[at : at + count])))
        at += count
    names = {f"{path}{PATCH}" for path, _ in result}
    folders = {str(parent) for name in names for parent in Path(name).parents}
    if at != len(chunks) or names & folders or DIFF_YAML in folders:
        return None
    return result


def _independent(
    part: Part,
    diffs: Sequence[tuple[str, bytes]],
    base_tree: str,
    wanted: str,
    room: Path,
    cancel: CancelToken | None,
) -> bool:
    """Whether the patches give the tree one by one, in either order.

    FlagScale's tool takes them in the order in which the file system lists them.
    """
    ordered = sorted(diffs)
    for number, order in enumerate((ordered, ordered[::-1])):
        try:
            stream = [Diff(path, content) for path, content in order]
            got = applied(part.git, base_tree, stream, room / f"try-{number}", cancel=cancel)
        except RelforgeError:
            return False  # whatever is wrong with the change itself, the whole diff shows it, too
        if got.tree != wanted:
            return False
    return True
