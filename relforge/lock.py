"""The lock: every moving part of a release resolved, in a file beside its manifest."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.frozen import Frozen, content_key
from relforge.manifest.common import Commit, Name, Sha256, TreeHash
from relforge.manifest.device import Device
from relforge.manifest.loader import load
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.yamlnodes import Misplaced, compose, plain


class LockedSource(Frozen):
    """A source with the git tree hash it ends in. ``created_s`` is its own date, seconds UTC."""

    kind: Literal["git", "archive", "wheel"]
    identity: str
    """``package==version`` or ``url@commit``."""
    file_name: str | None = None
    sha256: Sha256 | None = None
    commit: Commit | None = None
    tree: TreeHash
    created_s: int | None = None


class LockedPatchSet(Frozen):
    """A patch set with the tree it makes of its base."""

    source: Name
    content: Sha256
    base_tree: TreeHash
    result_tree: TreeHash | None
    """None: it was sealed in a format without a signature, and the lock was made without its key.
    """
    patches: tuple[tuple[str, Sha256], ...]
    """Name and hash of each; the hash is of the file as it is stored, so of a sealed one sealed."""


class LockedWheel(Frozen):
    """One wheel by exact file and hash."""

    name: str
    version: str
    file_name: str
    sha256: Sha256


class LockedWheels(Frozen):
    """A complete set of wheels for one Python on one kind of machine, sorted by name."""

    python_version: str
    machine: str
    wheels: tuple[LockedWheel, ...] = ()


class Lock(Frozen):
    """Everything a release is made of, resolved."""

    kind: Literal["lock"] = "lock"
    release: Name
    request: Sha256
    """Content key of the manifest parts that were resolved; tells a stale lock."""
    source_date_epoch: int
    sources: dict[Name, LockedSource] = {}
    patches: dict[Name, LockedPatchSet] = {}
    wheels: LockedWheels
    build_wheels: LockedWheels

    def tree(self, source: str) -> str:
        """The tree hash of a source after its patch sets.

        Where nobody could tell it yet, what decides it instead: the base's hash, a plus sign, and
        the beginning of the patch set's.
        """
        tree = self.sources[source].tree
        for patch_set in self.patches.values():
            if patch_set.source == source:
                unknown = f"{patch_set.base_tree}+{patch_set.content[:12]}"
                tree = patch_set.result_tree or unknown
        return tree


def request_key(release: Release, device: Device) -> str:
    """Content key of what ``relforge lock`` resolves."""
    return content_key(
        {
            "sources": {n: s.model_dump(mode="json") for n, s in release.sources.items()},
            "patches": [
                p.model_dump(mode="json", exclude={"ships"}, exclude_none=True)
                for p in release.patches
            ],
            "python": release.build.python.model_dump(
                mode="json", exclude={"pip_check_exceptions", "bytecode_for"}
            ),
            "interpreter": device.python,
            "architecture": device.architecture,
        }
    )


def lock_path(project: Project, release: Release) -> Path:
    """The lock stands beside the release's manifest."""
    manifest = project.release_files[release.name]
    return manifest.with_name(f"{release.name}.lock.yaml")


def load_lock(project: Project, release: Release, device: Device) -> Lock:
    """The release's lock. Raises RelforgeError (USAGE) when it is missing or stale."""
    path = lock_path(project, release)
    command = f"relforge lock --release {release.name}"
    if not path.is_file():
        raise RelforgeError(
            f"{release.name} has no lock", code=ExitCode.USAGE, where=str(path), hint=command
        )
    lock = _read(path) or load(path, Lock)
    if lock.request != request_key(release, device):
        raise RelforgeError(
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


def dump_lock(lock: Lock) -> bytes:
    """The lock as YAML, the same bytes for the same lock."""

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
        f"# Made by `relforge lock --release {lock.release}`; do not edit.\n"
        "# yaml-language-server: $schema=../schema/lock.schema.json\n"
    )
    body = yaml.dump(data, Dumper=Dumper, sort_keys=False, width=4096, allow_unicode=True)
    return (head + body).encode()


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


def _flow(value: dict[str, Any]) -> _Flow:
    return _Flow(value)


def write_lock(project: Project, release: Release, lock: Lock) -> Path:
    """Writes the lock beside the manifest and returns its path."""
    path = lock_path(project, release)
    write_atomic(path, dump_lock(lock))
    return path
