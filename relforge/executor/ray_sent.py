"""What a job is when it goes to another host: its inputs, and which files it reads, by hash.

Nothing of the driver's site configuration goes along: the worker has its own. Files of the project
are those that its manifests name, and never a private key, wherever it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relforge.errors import RelforgeError
from relforge.executor.ray_paths import Places, moved, outputs_in
from relforge.files import Output, sha256_file
from relforge.frozen import Frozen
from relforge.manifest.common import Sha256
from relforge.manifest.fileversion import FileVersion, file_version
from relforge.manifest.project import Project
from relforge.manifest.site import Site
from relforge.patching.stored import Place, place_of
from relforge.stage import Job, Resources, Stage, StageResult

_ALWAYS = ("manifests", "dockerfiles")
_HEAD_BYTES = 4096
_PRIVATE = (b"PRIVATE KEY-----", b"AGE-SECRET-KEY-1", b"BEGIN OPENSSH PRIVATE", b"BEGIN ENCRYPTED ")


class SentFile(Frozen):
    """A file that the job reads. ``path`` is told (``ray_paths.py``), sizes are bytes."""

    path: Path
    sha256: Sha256
    size_bytes: int
    executable: bool = False


@dataclass(frozen=True)
class Sent:
    """A job as it travels: picklable, without a secret, its paths told.

    ``trees`` and ``commits`` are what it reads from the store's git repository; ``patch_sets`` are
    told paths by name, of what the driver's site has in the place of the manifest's.
    """

    stage: Stage[Any, Any]
    job: Job[Any]
    needs: Resources
    secrets: tuple[str, ...]
    files: tuple[SentFile, ...]
    trees: tuple[str, ...] = ()
    commits: tuple[Place, ...] = ()
    patch_sets: Mapping[str, Path] = field(default_factory=dict)
    shared: str | None = None
    """Of the driver's place for large files: its id."""


@dataclass(frozen=True)
class Packed:
    """A job that is ready to be sent, and where its files lie here, by hash."""

    sent: Sent
    here: Mapping[str, Path]


def places_of(job: Job[Any]) -> Places:
    """The driver's places."""
    return Places(job.env.home, job.env.dist, job.env.project_roots)


def pack(
    stage: Stage[Any, Any],
    job: Job[Any],
    needs: Resources,
    project: ProjectFiles,
    shared: str | None = None,
) -> Packed:
    """What of the job goes to another host. Raises OSError when a file of it is gone."""
    places = places_of(job)
    git_dir = job.env.home / "store" / "git"
    files: dict[Path, SentFile] = {}
    here: dict[str, Path] = {}

    def add(path: Path, sha256: str, size_bytes: int, *, executable: bool) -> None:
        told = places.told(path)
        files[told] = SentFile(
            path=told, sha256=sha256, size_bytes=size_bytes, executable=executable
        )
        here[sha256] = path

    for output in outputs_in(job.upstream):
        if not output.path.is_relative_to(git_dir):
            add(output.path, output.sha256, output.size_bytes, executable=False)
    for path in project.of(job):
        info = path.stat()
        add(path, project.sha256(path), info.st_size, executable=bool(info.st_mode & 0o100))
    overridden = {
        name: path for name, path in job.env.site.patch_sets.items() if name in _set_names(job)
    }
    for patch_set in overridden.values():
        for path in project.sent(_below(patch_set)):
            add(path, project.sha256(path), path.stat().st_size, executable=False)
    env = moved(job.env.model_copy(update={"site": Site()}), places.told)
    told_job = replace(job, upstream=moved(dict(job.upstream), places.told), env=env)
    return Packed(
        Sent(
            stage=stage,
            job=told_job,
            needs=needs,
            secrets=job.secrets,
            files=tuple(files.values()),
            trees=_trees(job.upstream),
            commits=tuple(_commits(job)),
            patch_sets={name: places.told(path) for name, path in overridden.items()},
            shared=shared,
        ),
        here,
    )


class ProjectFiles:
    """Which files of a project a job reads; looked up once for each stage of a release."""

    def __init__(self, site: Site) -> None:
        self._secret = {os.path.realpath(path) for path in _named_by(site)}
        self._known: dict[tuple[str, str, tuple[Path, ...]], tuple[Path, ...]] = {}
        self._hashes: dict[Path, tuple[FileVersion, str]] = {}

    def sha256(self, path: Path) -> str:
        """Of a file's content, read again only when it changed. Raises OSError."""
        version = file_version(path)
        known = self._hashes.get(path)
        if known is None or known[0] != version:
            known = self._hashes[path] = (version, sha256_file(path))
        return known[1]

    def of(self, job: Job[Any]) -> tuple[Path, ...]:
        """Manifests, templates, and whatever files or folders the manifests name."""
        key = (job.env.release, job.stage, job.env.project_roots)
        if key not in self._known:
            own = (job.env.home, job.env.dist)
            found = dict.fromkeys(
                path
                for path in self._found(job)
                if not any(path.is_relative_to(place) for place in own)
            )
            self._known[key] = tuple(self.sent(found))
        return self._known[key]

    def sent(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Those that are no secret: neither named by the site as one, nor a private key."""
        return (path for path in paths if not self._is_secret(path))

    def _found(self, job: Job[Any]) -> Iterator[Path]:
        for root in job.env.project_roots:
            for name in _ALWAYS:
                yield from _below(root / name)
        manifests = [*_manifests(job), job.inputs.model_dump(mode="json")]
        named = sorted(name for name in set(_strings(manifests)) if _is_inside(name))
        for root in job.env.project_roots:
            found = [path for name in named if (path := root / name).exists()]
            # A file that is named may name others beside it, as a task does its questions.
            beside = {path.parent for path in found if path.is_file()} - {root}
            found += [
                path for top in sorted(beside) for name in named if (path := top / name).exists()
            ]
            for path in found:
                yield from _below(path)

    def _is_secret(self, path: Path) -> bool:
        if os.path.realpath(path) in self._secret:
            return True
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        return any(mark in head for mark in _PRIVATE)


def _named_by(site: Site) -> Iterator[Path]:
    """The site configuration and what it names that is nobody else's."""
    named = (site.file, site.key_passphrase_file, site.ray.token_file)
    yield from (path for path in named if path is not None)
    for path in site.identities:
        yield path
        yield from _below(path)
    for hub in (site.hubs.huggingface, site.hubs.modelscope):
        if hub.token_file is not None:
            yield hub.token_file
    if site.proxy is not None and site.proxy.password_file is not None:
        yield site.proxy.password_file
    signing = site.publish.signing
    if signing is not None:
        yield signing.key
        if signing.passphrase_file is not None:
            yield signing.passphrase_file


def _manifests(job: Job[Any]) -> list[dict[str, Any]]:
    project = Project(job.env.project_roots)
    try:
        release = project.release(job.env.release)
        device, model = project.device(release.device), project.model(release.model)
    except RelforgeError:
        return []  # a job whose release is no manifest's reads none
    return [one.model_dump(mode="json") for one in (release, device, model)]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)


def _is_inside(name: str) -> bool:
    """Whether a text may be a path of the project: below it, and nothing hidden."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or len(name) > 1024 or "\0" in name:
        return False
    return not any(part.startswith(".") for part in parts)


def _below(path: Path) -> Iterator[Path]:
    """The file, or the files of the folder; hidden ones are left out."""
    if path.is_file():
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if not entry.name.startswith(".") and entry.name != "__pycache__":
                yield from _below(entry)


def _set_names(job: Job[Any]) -> set[str]:
    return {one.name for one in _patched(job)}


def _patched(job: Job[Any]) -> tuple[Any, ...]:
    """The patch sets that the job applies: those it proves, or that were proved before it."""
    own = getattr(job.inputs, "sets", ())
    before = getattr(job.upstream.get("unpatch"), "sets", ())
    return (*own, *before)


def _trees(upstream: Mapping[str, StageResult]) -> tuple[str, ...]:
    sources = getattr(upstream.get("sources"), "trees", ())
    patched = getattr(upstream.get("unpatch"), "sets", ())
    return tuple(dict.fromkeys((*(t.tree for t in sources), *(s.base_tree for s in patched))))


def _commits(job: Job[Any]) -> Iterator[Place]:
    """Patch sets that lie in a repository's commit."""
    for one in _patched(job):
        if one.repository is not None and one.name not in job.env.site.patch_sets:
            yield place_of(one)


def output_of(file: SentFile, path: Path) -> Output:
    """The file as a result on this host names it."""
    info = path.stat()
    return Output(
        path=path,
        sha256=file.sha256,
        size_bytes=info.st_size,
        mtime_ns=info.st_mtime_ns,
        inode=info.st_ino,
    )
