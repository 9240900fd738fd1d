"""Patch sets that lie in a git repository, at a commit: most often in the source's own.

FlagScale keeps its vendors' patches so: made for one of its states, published in a later one. What
such a set holds is known from the lock; its repository is needed only when it is applied.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, TreeEntry
from relforge.manifest.device import Device
from relforge.manifest.project import normalised
from relforge.manifest.site import Site
from relforge.manifest.source import GitSource, PatchSetRef, SourceSpec
from relforge.patching.flagscale.diff_yaml import DIFF_YAML, DiffYaml, read_diff_yaml
from relforge.patching.flagscale.entry import EntryPatches, StoredFile, is_patch
from relforge.patching.flagscale.names import PATCH, ROOT_BACKEND, SEALED
from relforge.patching.series import SERIES, read_series_text
from relforge.patching.source import PatchSetInfo, PatchSource, PatchStream, Trust

_LEGACY_BASE = re.compile(r"[0-9a-f]{7,40}")

UNVERIFIED = (
    "note: {name} cannot be verified: it is sealed in FlagScale's format, which carries no "
    "signature and no checksum, and no tree is pinned that must come out.\n"
    "      Pin it: relforge lock with the key at hand, or result_tree in the release manifest, as "
    "its maker tells it"
)


class KnownContent(NamedTuple):
    """What the lock says of a patch set; enough to plan with."""

    content_sha256: str
    sealed: bool


class Place(NamedTuple):
    """A folder or file of a repository's commit."""

    url: str
    commit: str
    path: str

    def __str__(self) -> str:
        return f"{self.url}: {self.path} in {self.commit[:12]}"


@dataclass(frozen=True)
class StoredPatches:
    """A patch set of a repository: what the lock knows of it, until it is read from ``git``."""

    name: str
    place: Place
    known: KnownContent
    git: Git | None = None

    def info(self, trust: Trust) -> PatchSetInfo:  # noqa: ARG002  (nobody signs such a set)
        """Its name and content, as the lock has them."""
        return PatchSetInfo(
            name=self.name,
            content_sha256=self.known.content_sha256,
            sealed=self.known.sealed,
        )

    @contextlib.contextmanager
    def stream(self, trust: Trust) -> Iterator[PatchStream]:
        """Reads it from the repository. Raises RelforgeError (SOURCE) when it is another one."""
        if self.git is None:
            raise ValueError(f"{self.name}: no repository was given to read {self.place} from")
        stored = read_stored(self.git, self.place, name=self.name)
        found = stored.info(trust).content_sha256
        if found != self.known.content_sha256:
            raise RelforgeError(
                f"patch set {self.name} is not the one in the lock",
                code=ExitCode.SOURCE,
                where=str(self.place),
                why=f"its content is {found[:12]}, the lock pins {self.known.content_sha256[:12]}",
                hint="restore the lock, or make it again: relforge lock",
            )
        with stored.stream(trust) as stream:
            yield stream


def place_of(ref: PatchSetRef) -> Place:
    """Where a patch set of a repository lies; the reference is one of ``Release.patch_refs``."""
    if ref.repository is None or ref.repository.url is None:
        raise ValueError(f"patch set {ref.name} names no repository")
    return Place(ref.repository.url, ref.repository.commit, ref.path)


def fetch_place(
    place: Place,
    *,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> Git:
    """The store, with the place's commit in it. Raises RelforgeError (SOURCE)."""
    from relforge.sources.api import store_of
    from relforge.sources.git import fetch_commit

    git = store_of(home)
    git.cancel = cancel
    locks = home / "store" / "locks"
    fetch_commit(git, place.url, place.commit, site=site, locks=locks, ctx_line=ctx_line)
    return git


def _of_series(
    named: dict[str, int], entries: Mapping[str, TreeEntry], place: Place
) -> tuple[str, ...]:
    for patch, line in named.items():
        if patch not in entries:
            raise RelforgeError(
                "the patch set cannot be used",
                code=ExitCode.SOURCE,
                where=f"{place}/{SERIES}:{line}",
                why=f"{patch} is not in that commit",
                hint="name a commit that has it: repository.commit in the release manifest",
            )
    return tuple(named)


def known_content(stored: EntryPatches) -> KnownContent:
    """What a lock keeps of it."""
    return KnownContent(stored.info(Trust()).content_sha256, stored.sealed)


def read_stored(git: Git, place: Place, *, name: str) -> EntryPatches:
    """The patches of a repository's folder, or its one file; *git* has the commit.

    In a folder with a ``series`` file that one decides, else the patches count in the order of
    their paths, as FlagScale's tools take them. Of a sealed patch with its decrypted copy beside
    it the sealed one is taken. Raises RelforgeError (SOURCE).
    """
    entries = {row.path: row for row in _listing(git, place)}
    if SERIES in entries:
        ((_row, text),) = git.blobs([entries[SERIES]])
        names = _of_series(read_series_text(text, f"{place}/{SERIES}"), entries, place)
    else:
        names = tuple(
            path
            for path in sorted(entries)
            if is_patch(path)
            and not (path.endswith(PATCH) and f"{path.removesuffix(PATCH)}{SEALED}" in entries)
        )
    if not names:
        raise RelforgeError(
            f"patch set {name} has no patch",
            code=ExitCode.SOURCE,
            where=str(place),
            why=f"it holds {', '.join(sorted(entries)[:5]) or 'nothing'}",
            hint="correct its path or its repository.commit in the release manifest",
        )
    files = tuple(StoredFile(path, entries[path]) for path in names)
    return EntryPatches(name, str(place), files, git)


def check_made_for(git: Git, place: Place, source: SourceSpec, device: Device) -> None:
    """Refuses an entry of FlagScale that says it is made for another base or device.

    Raises RelforgeError (SOURCE).
    """
    commit = source.commit if isinstance(source, GitSource) else None
    folder, _, last = place.path.rpartition("/")
    if commit is not None and _LEGACY_BASE.fullmatch(last) and not commit.startswith(last):
        raise _for_another("base", place, f"commit {last}", f"commit {commit}")
    row = next((row for row in _listing(git, place) if row.path == DIFF_YAML), None)
    if row is None:
        return
    ((_row, text),) = git.blobs([row])
    description = read_diff_yaml(text, f"{place}/{DIFF_YAML}")
    base = _base_for(description, last)
    if commit is not None and base is not None and not commit.startswith(base.lower()):
        raise _for_another("base", place, f"commit {base}", f"commit {commit}")
    names = {normalised(one) for one in (device.name, *device.aliases)}
    made_for = description.device_type or folder.rpartition("/")[2]
    if normalised(made_for) not in names:
        raise _for_another("device", place, made_for, device.name)


def _base_for(description: DiffYaml, backend: str) -> str | None:
    """The state of the backend that an entry's patches apply to, where the entry names it."""
    if backend == ROOT_BACKEND:
        return description.commit
    return description.backends_commit.get(backend)


def _listing(git: Git, place: Place) -> tuple[TreeEntry, ...]:
    name = f"{place.commit}:{place.path}"
    done = git.run("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
    if done.returncode != 0:
        raise RelforgeError(
            "the patch set is not there",
            code=ExitCode.SOURCE,
            where=str(place),
            hint="correct its path or its repository.commit in the release manifest",
        )
    if git.has(done.text, "tree"):
        return git.list_tree(done.text)
    file = place.path.rpartition("/")[2]
    return (TreeEntry(file, "100644", done.text, None),)


def _for_another(kind: str, place: Place, made_for: str, here: str) -> RelforgeError:
    return RelforgeError(
        f"the patch set is made for another {kind}",
        code=ExitCode.SOURCE,
        where=str(place),
        why=f"it is for {made_for}; the release would apply it to {here}",
        hint="correct the source's commit, or the patch set's path, in the release manifest",
    )


def in_store(patches: PatchSource, git: Git) -> PatchSource:
    """The patch set with the repository it is read from, where it lies in one."""
    if isinstance(patches, StoredPatches):
        return StoredPatches(patches.name, patches.place, patches.known, git)
    return patches
