"""One file of a package, by version and hash, from whatever places pip and the site know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name
from packaging.version import Version

from relforge.addresses import shown
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.manifest.source import ArchiveSource, WheelSource
from relforge.network import PROXY_HINT
from relforge.sources import filestore
from relforge.sources.places import Places

if TYPE_CHECKING:
    from unearth import Link

    from relforge.sources.http import IndexClient

_ATTEMPTS = 3
_PROGRESS_BYTES = 100 * 1000 * 1000


@dataclass(frozen=True)
class PackageFile:
    """One pinned file. ``kind`` is ``any`` when only the hash decides."""

    package: str
    version: str
    sha256: str
    kind: Literal["archive", "wheel", "any"] = "any"

    @classmethod
    def of(cls, spec: ArchiveSource | WheelSource | PackageFile) -> PackageFile:
        """The pinned file that a source names."""
        if isinstance(spec, PackageFile):
            return spec
        return cls(spec.package, spec.version, spec.sha256, spec.kind)

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass
class _Search:
    """What was seen on the way, for the error message."""

    wanted: PackageFile
    searched: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    altered: list[tuple[str, str]] = field(default_factory=list)


def fetch_package(
    spec: ArchiveSource | WheelSource | PackageFile,
    *,
    site: Site,
    files: Path,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None = None,
    client: IndexClient | None = None,
) -> Path:
    """The pinned file, in the file store *files* (``<home>/store/files``); fetched when not there.

    Every place is asked until one gives the bytes with the pinned hash. Raises RelforgeError with
    code SOURCE: not found, altered, or nobody answers. ``client`` is shared by many fetches.
    """
    wanted = PackageFile.of(spec)
    if found := filestore.lookup(files, wanted.sha256):
        return found
    if client is not None:
        return _fetch(wanted, client, files, ctx_line, cancel)
    with open_client(Places.of(site)) as own:
        return _fetch(wanted, own, files, ctx_line, cancel)


def open_client(places: Places) -> IndexClient:
    """A client for these places. Imports the HTTP libraries, which a full store never needs."""
    from relforge.sources.http import IndexClient

    return IndexClient(places)


def _fetch(
    wanted: PackageFile,
    client: IndexClient,
    files: Path,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> Path:
    search = _Search(wanted)
    places = client.places
    for kind, url in (
        *(("find_links", url) for url in places.find_links),
        *(("index", url) for url in places.index_urls),
    ):
        if cancel is not None:
            cancel.check()
        search.searched.append(shown(url))
        for link in _links(client, kind, url, search):
            if path := _download(link, client, files, search, ctx_line, cancel):
                return path
    raise _not_found(search)


def _links(client: IndexClient, kind: str, url: str, search: _Search) -> Iterator[Link]:
    """The candidate files of one place: those with the pinned hash first, then those without."""
    from unearth import Link, PackageFinder
    from unearth.collector import is_secure_origin

    from relforge.sources.http import Unreachable

    wanted = search.wanted
    if kind == "find_links" and "://" not in url and not Path(url).exists():
        search.problems.append(f"{url}: does not exist")
        return
    if "://" in url and not is_secure_origin(client, Link(url)):
        search.problems.append(f"{shown(url)}: plain HTTP, and not one of pip's trusted hosts")
        return
    finder = PackageFinder(client, ignore_compatibility=True)
    finder.sources = [{"url": url, "type": kind}]
    try:
        found = list(
            finder.find_matches(
                f"{canonicalize_name(wanted.package)}=={wanted.version}",
                allow_yanked=True,
                allow_prereleases=True,
            )
        )
    except (Unreachable, OSError, ValueError) as error:
        search.problems.append(f"{shown(url)}: {error}")
        return
    pinned, unknown = [], []
    for package in found:
        link = package.link
        if package.version is None or Version(package.version) != Version(wanted.version):
            continue  # ==1.0 also matches 1.0+cpu, which is another file
        if wanted.kind != "any" and link.is_wheel != (wanted.kind == "wheel"):
            continue
        hashes = (link.hash_option or {}).get("sha256")
        if not hashes:
            unknown.append(link)
        elif wanted.sha256 in hashes:
            pinned.append(link)
        else:
            search.offered.append(f"{link.filename} sha256 {hashes[0]}")
    yield from pinned
    yield from unknown


def _download(
    link: Link,
    client: IndexClient,
    files: Path,
    search: _Search,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> Path | None:
    from relforge.sources.http import Unreachable

    name = link.filename
    ctx_line(f"fetching {name}")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            chunks = _watched(client.chunks(link.normalized), name, ctx_line, cancel)
            return filestore.add(files, search.wanted.sha256, name, chunks)
        except filestore.HashMismatch as mismatch:
            search.altered.append((name, mismatch.got))
            ctx_line(f"{name}: not the pinned bytes, asking elsewhere")
            return None
        except Unreachable as error:
            search.problems.append(f"{name}: {error}")
            if "HTTP 4" in str(error) or link.is_file or attempt == _ATTEMPTS:
                return None
            ctx_line(f"{name}: {error}; trying again")
            if cancel is None:
                time.sleep(attempt)
            else:
                cancel.sleep(attempt)
    return None


def _watched(
    chunks: Iterator[bytes],
    name: str,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> Iterator[bytes]:
    read = told = 0
    for chunk in chunks:
        if cancel is not None:
            cancel.check()
        read += len(chunk)
        if read - told >= _PROGRESS_BYTES:
            told = read
            ctx_line(f"{name}: {read / 1e6:.0f} MB")
        yield chunk


def _not_found(search: _Search) -> RelforgeError:
    wanted = search.wanted
    searched = ", ".join(search.searched) or "nothing: pip has no index and no find-links"
    if search.altered:
        name, got = search.altered[0]
        return RelforgeError(
            f"{name} is not the file that was pinned (hash mismatch)",
            code=ExitCode.SOURCE,
            where=searched,
            why=f"expected sha256 {wanted.sha256}, got {got}",
            hint="do not use that place; if the release itself moved, pin the new hash in the "
            "manifest and run `relforge lock`",
        )
    if search.offered:
        return RelforgeError(
            f"{wanted} is there, but no file of it has the pinned hash",
            code=ExitCode.SOURCE,
            where=searched,
            why=f"expected sha256 {wanted.sha256}; offered: " + "; ".join(search.offered[:5]),
            hint="compare the hash in the manifest with the one that the project publishes",
        )
    remedy = (
        "check `pip config list`, or add a place to python.find_links in the site configuration"
    )
    if any("the proxy " in problem for problem in search.problems):
        remedy = f"{PROXY_HINT}; else {remedy}"
    return RelforgeError(
        f"{wanted} was not found",
        code=ExitCode.SOURCE,
        where=f"searched: {searched}",
        why="; ".join(dict.fromkeys(search.problems)) or "no place has that version",
        hint=remedy,
    )
