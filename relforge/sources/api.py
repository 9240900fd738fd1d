"""One door to all kinds of sources: a pinned spec in, an identified tree out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from relforge.cancel import CancelToken
from relforge.files import held_lock, write_atomic
from relforge.frozen import Frozen, content_key
from relforge.gitio import Git, init_store
from relforge.manifest.common import Commit, Sha256, TreeHash
from relforge.manifest.site import Site
from relforge.manifest.source import ArchiveSource, GitSource, WheelSource

_REVISION = 1  # raised when the same spec would give another result


class ImportedSource(Frozen):
    """A source whose tree lies in the store.

    ``created_epoch`` is when upstream made it, in seconds since 1970: the commit's time, or the
    newest member of an archive; None when its members carry no real time.
    """

    name: str
    kind: Literal["git", "archive", "wheel"]
    package: str | None = None
    version: str | None = None
    file_name: str | None = None
    sha256: Sha256 | None = None
    url: str | None = None
    commit: Commit | None = None
    subdirectory: str | None = None
    tree: TreeHash
    created_epoch: int | None
    prebuilt: bool


def store_of(home: Path) -> Git:
    """The store's git repository, where every imported tree lies."""
    return init_store(home / "store" / "git")


def files_of(home: Path) -> Path:
    """The store's folder of files by hash."""
    return home / "store" / "files"


def import_source(
    name: str,
    spec: GitSource | ArchiveSource | WheelSource,
    *,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> ImportedSource:
    """Brings a source into the store, or finds it there at once.

    Raises RelforgeError with code SOURCE when it cannot be had or is not what was pinned.
    """
    key = content_key({"revision": _REVISION, "spec": spec})
    index = home / "store" / "sources" / f"{key}.json"
    git = store_of(home)
    git.cancel = cancel
    if known := _look_up(index, name, git):
        return known
    lock = home / "store" / "locks" / f"source-{key}.lock"
    with held_lock(lock, on_wait=ctx_line, cancel=cancel):
        if known := _look_up(index, name, git):
            return known
        if isinstance(spec, GitSource):
            imported = _import_git(name, spec, git, home, site, ctx_line)
        else:
            imported = _import_file(name, spec, git, home, site, ctx_line, cancel)
        write_atomic(index, imported.model_dump_json(indent=1).encode())
        return imported


def _look_up(index: Path, name: str, git: Git) -> ImportedSource | None:
    try:
        known = ImportedSource.model_validate_json(index.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    if not git.has(known.tree, "tree"):
        return None
    return known.model_copy(update={"name": name})


def _import_git(
    name: str,
    spec: GitSource,
    git: Git,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
) -> ImportedSource:
    from relforge.sources.git import fetch_commit

    locks = home / "store" / "locks"
    fetch_commit(git, spec.url, spec.commit, site=site, locks=locks, ctx_line=ctx_line)
    return ImportedSource(
        name=name,
        kind="git",
        url=spec.url,
        commit=spec.commit,
        subdirectory=spec.subdirectory,
        tree=git.tree_of(spec.commit, spec.subdirectory),
        created_epoch=git.commit_epoch(spec.commit),
        prebuilt=False,
    )


def _import_file(
    name: str,
    spec: ArchiveSource | WheelSource,
    git: Git,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> ImportedSource:
    from relforge.sources.archive import ArchiveReader
    from relforge.sources.fetch import fetch_package

    path = fetch_package(spec, site=site, files=files_of(home), ctx_line=ctx_line, cancel=cancel)
    ctx_line(f"importing {path.name}")
    members = ArchiveReader(path, strip=spec.kind == "archive")
    tree = git.import_files(members)
    return ImportedSource(
        name=name,
        kind=spec.kind,
        package=spec.package,
        version=spec.version,
        file_name=path.name,
        sha256=spec.sha256,
        tree=tree,
        created_epoch=members.newest_epoch,
        prebuilt=spec.kind == "wheel",
    )
