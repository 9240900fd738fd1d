"""What a commit holds below ``hardware/``, read from git's objects, also where some are missing."""

from __future__ import annotations

import hashlib
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from relforge.errors import RelforgeError
from relforge.gitio import Git, TreeEntry
from relforge.patching.flagscale.diff_yaml import DIFF_YAML, DiffYaml, read_diff_yaml
from relforge.patching.flagscale.early import base_named, digits_of, yaml_name
from relforge.patching.flagscale.entry import is_patch
from relforge.patching.flagscale.names import SEALED, TASKS
from relforge.patching.flagscale.repository import Repository

_BATCH_BYTES = 32 << 20
_LEGACY = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Unit:
    """One entry, as one commit has it: a folder ``hardware/<device>/<name>``.

    ``name`` is a backend, or the base of a legacy entry. ``now``: it is in the commit looked at.
    """

    commit: str
    device: str
    name: str
    tree: str
    rows: tuple[TreeEntry, ...]
    now: bool

    @property
    def legacy(self) -> bool:
        return _LEGACY.fullmatch(self.name) is not None

    @cached_property
    def digits(self) -> str | None:
        """The base's first digits in an entry of April and May 2025, whose files are named so."""
        if self.legacy:
            return None
        inside = f"{self.draft}/" if self.draft is not None else ""
        return digits_of(row.path.removeprefix(inside) for row in self.rows)

    @property
    def draft(self) -> str | None:
        """The folder inside an entry of the days from 22 to 28 April 2025, which a task names."""
        folders = {row.path.partition("/")[0] for row in self.rows if "/" in row.path}
        return next(iter(folders), None) if self.name in TASKS and len(folders) == 1 else None

    @property
    def described_in(self) -> str:
        """The file in which the entry describes itself."""
        return DIFF_YAML if self.digits is None else yaml_name(self.digits)

    @property
    def folder(self) -> str:
        return f"hardware/{self.device}/{self.name}"

    @property
    def patches(self) -> tuple[TreeEntry, ...]:
        return tuple(sorted((r for r in self.rows if is_patch(r.path)), key=lambda r: r.path))

    @property
    def plain(self) -> tuple[TreeEntry, ...]:
        return tuple(row for row in self.patches if not row.path.endswith(SEALED))

    @property
    def description(self) -> TreeEntry | None:
        return next((row for row in self.rows if row.path == self.described_in), None)

    def where(self, path: str = "", line: int | None = None) -> str:
        """How a finding names a file of it."""
        at = f"{self.folder}/{path}" if path else self.folder
        at = at if line is None else f"{at}:{line}"
        return at if self.now else f"{self.commit[:12]}:{at}"


@dataclass(frozen=True)
class Hardware:
    """The folder ``hardware/`` of a commit; ``others`` are the files that belong to no entry."""

    units: tuple[Unit, ...]
    others: tuple[TreeEntry, ...]

    def unit(self, device: str, name: str) -> Unit | None:
        """A device's entry."""
        return next((u for u in self.units if (u.device, u.name) == (device, name)), None)


@dataclass
class Objects:
    """Reads objects in batches; one that is missing, or not what its name says, is None."""

    git: Git
    _kinds: dict[str, tuple[str, str, int] | None] = field(default_factory=dict)

    def kinds(self, names: Iterable[str]) -> dict[str, tuple[str, str, int]]:
        """Hash, kind and size of each object that is there, by the name asked for."""
        wanted = list(dict.fromkeys(names))
        asked = [name for name in wanted if name not in self._kinds]
        rows = self._batch("--batch-check", asked).decode("utf-8", "replace").splitlines()
        for name, row in itertools.zip_longest(asked, rows[: len(asked)], fillvalue=""):
            oid, kind, size = (*row.split(), "", "", "")[:3]
            self._kinds[name] = (oid, kind, int(size)) if size.isdigit() else None
        return {name: there for name in wanted if (there := self._kinds[name]) is not None}

    def blobs(self, oids: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """The contents of files, in order, held in memory some 32 MiB at a time."""
        kinds = self.kinds(oids)
        batch: list[str] = []
        held = 0
        for oid in oids:
            batch.append(oid)
            held += kinds[oid][2] if oid in kinds else 0
            if held >= _BATCH_BYTES:
                yield from self._contents(batch)
                batch, held = [], 0
        yield from self._contents(batch)

    def blob(self, oid: str) -> bytes | None:
        """One file's content."""
        return next(self.blobs([oid]))[1]

    def _contents(self, oids: list[str]) -> Iterator[tuple[str, bytes | None]]:
        out = self._batch("--batch", oids)
        at = 0
        for oid in oids:
            end = out.find(b"\n", at)
            header = out[at:end].decode("utf-8", "replace").split() if end >= 0 else []
            at = end + 1 if end >= 0 else len(out)
            if len(header) != 3 or header[0] != oid:
                yield oid, None
                continue
            size = int(header[2])
            content = out[at : at + size]
            at += size + 1
            yield oid, content if header[1] == "blob" and _is(oid, content) else None

    def _batch(self, how: str, names: Sequence[str]) -> bytes:
        if not names:
            return b""
        # The question is a file: git does not read on while its answer waits in a full pipe.
        with tempfile.TemporaryFile() as asked:
            asked.write("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
            asked.seek(0)
            return self.git.run("cat-file", how, "--buffer", stdin=asked, check=False).stdout


@dataclass
class Look:
    """A checkout under examination: everything is read once."""

    repository: Repository
    commit: str
    _hardware: dict[str, Hardware] = field(default_factory=dict)
    _described: dict[tuple[str, str | None], DiffYaml | RelforgeError | None] = field(
        default_factory=dict
    )
    _ancestry: dict[tuple[str, str], bool] = field(default_factory=dict)

    @property
    def git(self) -> Git:
        return self.repository.git

    @cached_property
    def objects(self) -> Objects:
        return Objects(self.git)

    @cached_property
    def shallow(self) -> bool:
        return (self.repository.common_dir / "shallow").is_file()

    @cached_property
    def on_branches(self) -> frozenset[str]:
        """Every commit that a branch or tag leads to."""
        refs = ("--branches", "--remotes", "--tags")
        return frozenset(self.git.text("rev-list", *refs).split())

    @cached_property
    def ancestors(self) -> frozenset[str]:
        """The commit looked at, and every commit before it."""
        return frozenset(self.git.text("rev-list", self.commit).split())

    def leads_to(self, base: str, commit: str) -> bool:
        """Whether *base* is in the history of *commit*; both are there."""
        if commit == self.commit:
            return base in self.ancestors
        if (base, commit) not in self._ancestry:
            done = self.git.run("merge-base", "--is-ancestor", base, commit, check=False)
            self._ancestry[base, commit] = done.returncode == 0
        return self._ancestry[base, commit]

    def commit_id(self, name: str) -> str | None:
        """The full id of the commit that a hash, or its beginning, means; None without one."""
        found = self.objects.kinds([f"{name}^{{commit}}"]) if name.isalnum() else {}
        return next((oid for oid, _kind, _size in found.values()), None)

    def hardware(self, commit: str) -> Hardware:
        """The entries of a commit."""
        if commit not in self._hardware:
            done = self.git.run(
                "ls-tree", "-r", "-t", "-z", "--full-tree", commit, "hardware/", check=False
            )
            self._hardware[commit] = _hardware(done.stdout, commit, now=commit == self.commit)
        return self._hardware[commit]

    def description(self, unit: Unit) -> DiffYaml | RelforgeError | None:
        """What an entry says of itself; None without such a file, or without its content."""
        row = unit.description
        if row is None:
            return None
        key = row.oid, unit.digits
        if key not in self._described:
            data, where = self.objects.blob(row.oid), unit.where(row.path)
            try:
                read = None if data is None else read_diff_yaml(data, where, base=unit.digits)
                self._described[key] = read
            except RelforgeError as error:
                self._described[key] = error
        return self._described[key]

    def base_of(self, unit: Unit) -> str | None:
        """The full id of the state of FlagScale that an entry is made for, where it is at hand."""
        if unit.legacy:
            return self.commit_id(unit.name[:8])
        if unit.digits is not None:
            try:
                return base_named(self.repository, unit.digits, unit.commit)
            except RelforgeError:
                return None
        described = self.description(unit)
        return self.commit_id(described.commit) if isinstance(described, DiffYaml) else None


def _hardware(listing: bytes, commit: str, *, now: bool) -> Hardware:
    trees: dict[tuple[str, str], str] = {}
    rows: dict[tuple[str, str], list[TreeEntry]] = {}
    others = []
    for line in listing.split(b"\0")[:-1]:
        left, _, raw = line.partition(b"\t")
        mode, kind, oid = left.decode().split()
        path = raw.decode("utf-8", "surrogateescape")
        parts = path.split("/", 3)
        if kind == "tree":
            if len(parts) == 3:
                trees[parts[1], parts[2]] = oid
        elif len(parts) == 4:
            row = TreeEntry(parts[3], mode, oid, None)
            rows.setdefault((parts[1], parts[2]), []).append(row)
        else:
            others.append(TreeEntry(path, mode, oid, None))
    units = (Unit(commit, *key, trees[key], tuple(found), now) for key, found in rows.items())
    return Hardware(tuple(units), tuple(others))


def _is(oid: str, content: bytes) -> bool:
    digest = hashlib.sha1(usedforsecurity=False) if len(oid) == 40 else hashlib.sha256()
    digest.update(b"blob %d\0" % len(content))
    digest.update(content)
    return digest.hexdigest() == oid
