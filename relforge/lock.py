"""The lock: every moving part of a release resolved, in a file beside its manifest."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.frozen import Frozen, content_key
from relforge.manifest.common import Commit, Digest, Line, Name, Sha256, TreeHash
from relforge.manifest.device import Device
from relforge.manifest.facts import UNRESOLVED, RegistryBase, RequestedImage
from relforge.manifest.loader import load
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.yamlnodes import Misplaced, compose, plain


class NotAsLocked(RelforgeError):
    """A release and its lock do not belong together: it is missing, or stale."""


class LockedSource(Frozen):
    """A source with the git tree hash it ends in. ``created_s`` is its own date, seconds UTC.

    ``tree`` is None where the source could not be had: its pin decides what it is instead.
    """

    kind: Literal["git", "archive", "wheel"]
    identity: str
    """``package==version`` or ``url@commit``."""
    file_name: str | None = None
    """Of an archive or wheel."""
    sha256: Sha256 | None = None
    """Of an archive or wheel."""
    commit: Commit | None = None
    """Of a git source."""
    tree: TreeHash | None
    """The git tree hash that it ends in."""
    created_s: int | None = None
    """Its own date, seconds UTC."""

    @property
    def content(self) -> str:
        """The tree, or the pin that decides it."""
        return self.tree or self.commit or f"sha256:{self.sha256}"


class LockedPatchSet(Frozen):
    """A patch set with the tree it makes of its base."""

    source: Name
    """What it is applied to."""
    content: Sha256
    """Of all patches in order, opened where they are sealed and can be."""
    base_tree: TreeHash | None
    """None: the source could not be had when the lock was made."""
    result_tree: TreeHash | None
    """None: it was sealed in a format without a signature, and the lock was made without its key;
    or it could not be had."""
    patches: tuple[tuple[str, Sha256], ...]
    """Name and hash of each; the hash is of the file as it is stored, so of a sealed one sealed."""


class LockedWheel(Frozen):
    """One wheel by exact file and hash."""

    name: str
    """As the index has it."""
    version: str
    """Exactly this one."""
    file_name: str
    """It says Python and platform, too."""
    sha256: Sha256
    """Of the file."""


class LockedWheels(Frozen):
    """A complete set of wheels for one Python on one kind of machine, sorted by name."""

    python_version: str
    """As ``3.11``."""
    machine: str
    """As ``x86_64``."""
    resolved: bool = True
    """False: the packages could not be resolved where the lock was made."""
    index: Line | None = None
    """The vendor's package index that was asked beside the site's places."""
    wheels: tuple[LockedWheel, ...] = ()
    """Each by exact file."""


class LockedImage(Frozen):
    """An image of somebody else's that a release stands on, or is."""

    reference: Line
    """Its name, without digest."""
    digest: Digest | Literal["unresolved"]
    """Of its manifest."""


class Lock(Frozen):
    """Everything a release is made of, resolved; or, made with ``--partial``, what could be."""

    kind: Literal["lock"] = "lock"
    release: Name
    """Whose lock it is."""
    request: Sha256
    """Content key of the manifest parts that were resolved; tells a stale lock."""
    source_date_epoch: int
    """The date of files in the image that have none of their own, seconds UTC."""
    sources: dict[Name, LockedSource] = {}
    """Each source as a tree."""
    patches: dict[Name, LockedPatchSet] = {}
    """Each patch set with the tree that it makes."""
    image: LockedImage | None = None
    """The image that is taken as it is, or a base whose device manifest has no digest."""
    packages: Sha256 | None = None
    """Content key of what the wheels were resolved from; while it stays, they stay."""
    wheels: LockedWheels
    """What is installed in the image."""
    build_wheels: LockedWheels
    """What is needed to build the packages."""

    def tree(self, source: str) -> str:
        """The tree hash of a source after its patch sets.

        Where nobody could tell it yet, what decides it instead: the base's content, a plus sign,
        and the beginning of the patch set's.
        """
        base = self.sources[source].content
        for patch_set in self.patches.values():
            if patch_set.source == source:
                return patch_set.result_tree or f"{base}+{patch_set.content[:12]}"
        return base

    @property
    def unresolved(self) -> tuple[str, ...]:
        """What could not be had where the lock was made; nothing is built before it is."""
        found = [
            f"source {name} ({source.identity})"
            for name, source in self.sources.items()
            if source.tree is None
        ]
        found += [
            f"patch set {name}" for name, patch in self.patches.items() if patch.base_tree is None
        ]
        if self.image is not None and self.image.digest == UNRESOLVED:
            found.append(f"digest of {self.image.reference}")
        if not self.wheels.resolved:
            found.append("Python packages")
        if not self.build_wheels.resolved:
            found.append("Python packages of the build")
        return tuple(found)


def image_request(release: Release, device: Device) -> RegistryBase | RequestedImage | None:
    """The image whose digest the lock holds; None where the device manifest says all of it."""
    given = release.build.image
    if given is not None:
        return given.registry or given.on_request
    base = device.base
    if base.registry is not None:
        # One that can be made on any host needs no digest; another does.
        unpinned = base.registry.digest == UNRESOLVED and base.bootstrap is None
        return base.registry if unpinned else None
    return base.on_request


def request_key(release: Release, device: Device) -> str:
    """Content key of what ``relforge lock`` resolves."""
    image = image_request(release, device)
    found: dict[str, Any] = {
        "sources": {n: s.model_dump(mode="json") for n, s in release.sources.items()},
        "patches": [
            p.model_dump(mode="json", exclude={"ships", "key_contact"}, exclude_none=True)
            for p in release.patches
        ],
    }
    if image is not None:
        found["image"] = image.model_dump(mode="json", include={"reference", "digest"})
    if release.build.image is None:
        python = release.build.python
        found |= {
            "python": python.model_dump(
                mode="json", exclude={"pip_check_exceptions", "bytecode_for", "with_stack"}
            ),
            "interpreter": device.python,
        }
        if python.with_stack is not None:
            found["stack"] = device.stack.requirements(python.with_stack)
    return content_key({**found, "architecture": device.architecture})


def lock_path(project: Project, release: Release) -> Path:
    """The lock stands beside the release's manifest."""
    manifest = project.release_files[release.name]
    return manifest.with_name(f"{release.name}.lock.yaml")


def load_lock(project: Project, release: Release, device: Device) -> Lock:
    """The release's lock. Raises RelforgeError (USAGE) when it is missing or stale."""
    path = lock_path(project, release)
    command = f"relforge lock --release {release.name}"
    if not path.is_file():
        raise NotAsLocked(
            f"{release.name} has no lock", code=ExitCode.USAGE, where=str(path), hint=command
        )
    lock = _read(path) or load(path, Lock)
    if lock.request != request_key(release, device):
        raise NotAsLocked(
            f"the lock of {release.name} is stale",
            code=ExitCode.USAGE,
            where=str(path),
            why="sources, patch sets or packages in the manifest changed after it was made",
            hint=command,
        )
    return lock


def _read(path: Path) -> Lock | None:
    """A lock as ``dump_lock`` lays it out: each of its packages, most of the file, is one line,
    which many locks share and which is therefore read once. None for whatever looks different or
    is wrong: ``load`` reads that, or says what is wrong with it, and where.
    """
    try:
        head, found, tail = path.read_text(encoding="utf-8").partition("\nwheels:\n")
        first, also, second = tail.partition("\nbuild_wheels:\n")
        if not found or not also or len(head) > _LONGEST_HEAD:
            return None
        content = plain(cast(yaml.Node, compose(head)))
        if not isinstance(content, dict) or {"wheels", "build_wheels"} & set(content):
            return None
        content["wheels"], content["build_wheels"] = _wheels(first), _wheels(second)
        return Lock.model_validate(content)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    except Misplaced:
        return None


_LONGEST_HEAD = 1 << 16


@lru_cache(maxsize=64)
def _wheels(text: str) -> LockedWheels:
    """Read once for all locks with the very same packages, as those for building mostly are.

    Raises ValueError, TypeError or yaml.YAMLError for what ``dump_lock`` does not write.
    """
    lines = text.rstrip("\n").split("\n")
    end = next((i for i, line in enumerate(lines) if line.startswith("  wheels:")), len(lines))
    about = plain(cast(yaml.Node, compose("\n".join(lines[: end + 1]))))
    if about.pop("wheels", 0) not in (None, []):
        raise ValueError("packages stand on lines of their own")
    return LockedWheels(**about, wheels=tuple(map(_wheel, lines[end + 1 :])))


@lru_cache(maxsize=8192)
def _wheel(line: str) -> LockedWheel:
    if not line.startswith("  - {") or not line.endswith("}"):
        raise ValueError("no line of a package")
    return LockedWheel.model_validate(plain(cast(yaml.Node, compose(line[4:]))))


_SCHEMAS = "../schema/"


def dump_lock(lock: Lock, schemas: str = _SCHEMAS) -> bytes:
    """The lock as YAML, the same bytes for the same lock; editors look for its schema in
    ``schemas``, relative to it."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    data = lock.model_dump(mode="json", exclude_defaults=False)
    for kind in ("wheels", "build_wheels"):
        data[kind]["wheels"] = [_flow(wheel) for wheel in data[kind]["wheels"]]
    Dumper.add_representer(
        _Flow, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v, flow_style=True)
    )
    head = (
        f"# yaml-language-server: $schema={schemas}lock.schema.json\n"
        f"# Made by `relforge lock --release {lock.release}`; do not edit.\n"
    )
    body = yaml.dump(data, Dumper=Dumper, sort_keys=False, width=4096, allow_unicode=True)
    return (head + body).encode()


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


def _flow(value: dict[str, Any]) -> _Flow:
    return _Flow(value)


def write_lock(project: Project, release: Release, lock: Lock) -> bool:
    """Writes the lock beside the manifest; returns whether that changed anything."""
    path = lock_path(project, release)
    text = dump_lock(lock, _schemas(project.release_files[release.name]))
    if path.is_file() and path.read_bytes() == text:
        return False
    write_atomic(path, text)
    return True


def _schemas(manifest: Path) -> str:
    """Where the manifest beside a lock has its schema; not every project has schemas of its own."""
    first = manifest.read_text(encoding="utf-8").split("\n", 1)[0]
    named = re.search(r"\$schema=(\S*)release\.schema\.json", first)
    return named[1] if named else _SCHEMAS
