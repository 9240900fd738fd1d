"""What of a published folder goes into a model repository, under which names.

The card lies at the top with the head that the hub reads, weights where libraries look for them
(at the top, too), everything else under its own name. Layers of the image stay out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.files import sha256_file, write_atomic
from relforge.frozen import Frozen
from relforge.publishing.hubs.asking import PUBLICATION
from relforge.publishing.hubs.publication import (
    Notice,
    Publication,
    noticed,
    publication_bytes,
)
from relforge.publishing.published import HUB_CARDS, Published
from relforge.publishing.target import Change

Hub = Literal["huggingface", "modelscope"]
_EVAL_RESULTS = ".eval_results/"
_WEIGHTS = "weights/"
_CHUNK = 1 << 20


class Seen(Frozen):
    """A file of a repository as the hub lists it. Of large ones it knows the SHA-256 (LFS)."""

    path: str
    size: int
    git_sha1: str | None = None
    sha256: str | None = None


class Revision(Frozen):
    """The files at a commit, and what relforge wrote there about itself, if it is another text
    than the one that was asked for."""

    commit: str
    files: tuple[Seen, ...]
    publication: str | None = None

    @property
    def said(self) -> Publication | None:
        """The same, parsed."""
        return Publication.read(self.publication)


@dataclass(frozen=True)
class HubFile:
    """One file: where it lies here and there. ``size`` is in bytes."""

    path: str
    local: Path
    size: int
    sha256: str

    @cached_property
    def git_sha1(self) -> str:
        """The hash that git names its content by. Raises RelforgeError for an altered file."""
        own = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        content = hashlib.sha256()
        with self.local.open("rb") as file:
            while chunk := file.read(_CHUNK):
                own.update(chunk)
                content.update(chunk)
        if content.hexdigest() != self.sha256:
            raise _altered(self.local)
        return own.hexdigest()

    def same(self, seen: Seen | None) -> bool:
        """Whether the hub has this very content there."""
        if seen is None or seen.size != self.size:
            return False
        if seen.sha256 is not None:
            return seen.sha256 == self.sha256
        return seen.git_sha1 is not None and seen.git_sha1 == self.git_sha1


def differences(files: Mapping[str, HubFile], there: Revision | None) -> tuple[Change, ...]:
    """What would have to change there; files that relforge did not put there stay as they are."""
    seen = {one.path: one for one in there.files} if there else {}
    found = []
    for path, file in files.items():
        old = seen.get(path)
        same = file.same(old)
        found.append(
            Change(
                action="same" if same else "replace" if old else "add",
                kind="file",
                name=path,
                bytes=file.size,
                before=None if same or old is None else old.sha256 or old.git_sha1,
                after=f"sha256:{file.sha256}",
            )
        )
    old_publication = there.said if there else None
    for path in sorted(old_publication.files if old_publication else ()):
        if path in seen and path not in files:
            found.append(Change(action="remove", kind="file", name=path))
    return tuple(found)


def hub_files(
    published: Published, hub: Hub, *, weights: bool, scratch: Path, notice: Notice | None = None
) -> Mapping[str, HubFile]:
    """The files by their paths in the repository, as the release has them.

    Generated ones are written below ``scratch``. With a ``notice`` the cards begin with it and
    results stay out. Raises RelforgeError (PUBLISH) for what is missing, altered or in conflict.
    """
    listed = {**published.files, **_unlisted(published)}
    names = {
        there: here
        for here in listed
        if (there := _path(here, hub, weights)) is not None
        and not (notice and there.startswith(_EVAL_RESULTS))
    }
    if hub == "modelscope" and f"{HUB_CARDS}modelscope/README.md" not in listed:
        raise RelforgeError(
            f"{published.release} has no card for ModelScope",
            code=ExitCode.PUBLISH,
            where=str(published.folder),
            why=f"{HUB_CARDS}modelscope/README.md is not in it; an older relforge published it",
            hint=f"relforge release --release {published.release} writes it",
        )
    _require_distinct(published, hub, weights)
    found = {}
    for there, here in names.items():
        local, sha256 = published.folder / here, listed[here]
        if notice and there in ("README.md", "README_zh.md"):
            text = noticed(_read(local), notice, chinese=there != "README.md")
            local, sha256 = _made(scratch, there, text.encode())
        found[there] = HubFile(there, local, _size(local), sha256)
    said = {
        path: {"sha256": one.sha256, "bytes": one.size, "from": names[path]}
        for path, one in found.items()
    }
    publication = publication_bytes(published, said, notice)
    local, sha256 = _made(scratch, PUBLICATION, publication)
    found[PUBLICATION] = HubFile(PUBLICATION, local, len(publication), sha256)
    return dict(sorted(found.items()))


def _path(here: str, hub: Hub, weights: bool) -> str | None:
    """Where a file of the folder goes to; None: it stays here."""
    if here.startswith(_WEIGHTS):
        return here.removeprefix(_WEIGHTS) if weights else None
    if here.startswith(HUB_CARDS):
        own = f"{HUB_CARDS}{hub}/"
        return here.removeprefix(own) if here.startswith(own) else None
    if here in ("README.md", "README_zh.md") or here.startswith(_EVAL_RESULTS):
        return here if hub == "huggingface" else None
    return here


def _require_distinct(published: Published, hub: Hub, weights: bool) -> None:
    seen: dict[str, str] = {PUBLICATION: "relforge's own"}
    for here in dict.fromkeys((*published.files, *published.unlisted)):
        there = _path(here, hub, weights)
        if there is not None and there in seen:
            raise RelforgeError(
                f"two files of {published.release} would be {there} in the repository",
                code=ExitCode.PUBLISH,
                where=str(published.folder),
                why=f"{seen[there]} and {here}",
                hint="rename the file among the weights, or publish without them (weights: false)",
            )
        if there is not None:
            seen[there] = here


def _unlisted(published: Published) -> dict[str, str]:
    return {name: _sha256(published.folder / name) for name in published.unlisted}


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _made(scratch: Path, name: str, data: bytes) -> tuple[Path, str]:
    path = scratch / "made" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
    return path, hashlib.sha256(data).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _unreadable(path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "a file of the published release cannot be read",
        code=ExitCode.PUBLISH,
        where=str(path),
        why=why,
        hint="run the release again: what is missing is made anew",
    )


def _altered(path: Path) -> RelforgeError:
    return RelforgeError(
        "a file of the published release is not the one that was published",
        code=ExitCode.PUBLISH,
        where=str(path),
        why="its SHA-256 is not the one that contents.json lists",
        hint="run the release again: what was altered is made anew",
    )
