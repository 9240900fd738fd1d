"""Whole files of FlagScale laid over a submodule, as its tools did until September 2025.

A state of FlagScale of that time holds complete files for a submodule below
``flagscale/backends/<backend>``, and in ``deleted_files.txt`` the names of those to remove. Which
files they are is known only when FlagScale's own patches are applied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import sha256_hex
from relforge.gitio import Git
from relforge.patching.flagscale.entry import EntryPatches
from relforge.patching.flagscale.names import extension_of, extensions_of, folder_of
from relforge.patching.source import Diff, Graft, PatchSetInfo, PatchStream, Trust, Whitespace
from relforge.patching.tree.apply import apply_patches
from relforge.workarea import work_area

DELETED = "deleted_files.txt"
_HEAD_BYTES = 1 << 16
# Git then writes each change as a whole file: whitespace in it is nobody's to repair.
_ALL_BINARY = "* -diff\n"


@dataclass(frozen=True)
class Laying:
    """Over which submodules files are laid.

    ``always``: in any case. ``when_rooted``: when the backend's patch turns out to be one of files
    in ``flagscale/backends/<backend>``; else it is one of the submodule's own. ``only_patched``:
    such a patch is applied, but nothing is laid over. ``unfinished``: the last line of a patch may
    lack its end.
    """

    home: Path
    always: frozenset[str] = frozenset()
    when_rooted: frozenset[str] = frozenset()
    only_patched: bool = False
    unfinished: bool = False
    cancel: CancelToken | None = None


@dataclass(frozen=True)
class OverlaidPatches:
    """An entry's patches and the files laid over the submodules, as one patch set."""

    patches: EntryPatches
    laying: Laying
    git_dir: Path
    base_tree: str
    grafts: tuple[Graft, ...]
    whitespace: Whitespace

    def info(self, trust: Trust) -> PatchSetInfo:
        """The entry's, with a content that tells what is laid over."""
        info = self.patches.info(trust)
        over = [*sorted(self.laying.always), "?", *sorted(self.laying.when_rooted)]
        over += ["patched"] if self.laying.only_patched else []
        content = "\0".join((info.content_sha256, *over))
        return info.model_copy(update={"content_sha256": sha256_hex(content.encode())})

    @contextlib.contextmanager
    def stream(self, trust: Trust) -> Iterator[PatchStream]:
        """One diff of everything. Applies the patches in a work area of its own."""
        with (
            self.patches.stream(trust) as stream,
            work_area(self.laying.home, "overlay") as area,
        ):
            over = set(self.laying.always)
            applied = apply_patches(
                self.git_dir,
                self.base_tree,
                (self._placed(diff, over) for diff in stream.diffs),
                object_dir=area / "objects",
                work=area,
                grafts=self.grafts,
                whitespace=self.whitespace,
                cancel=self.laying.cancel,
            )
            # Without its submodule there is nothing that files could be laid over.
            there = {graft.folder for graft in self.grafts}
            tree = lay_over(applied.git, {one for one in over if folder_of(one) in there})
            diffs = _difference(applied.git, applied.base_tree, tree, self.patches.name)
            yield PatchStream(stream.patches, self.info(trust), diffs, stream.where)

    def _placed(self, diff: Diff, over: set[str]) -> Diff:
        if self.laying.unfinished:
            diff = Diff(diff.name, _finished(diff), diff.folder)
        for backend in self.laying.when_rooted:
            if diff.folder == folder_of(backend):
                rooted, content = _looked_at(diff, backend)
                if rooted and not self.laying.only_patched:
                    over.add(backend)
                return Diff(diff.name, content, "" if rooted else diff.folder)
        return diff


def lay_over(git: Git, backends: Iterable[str]) -> str:
    """Lays the files over in git's index, which holds the tree; returns the tree that results.

    Raises RelforgeError (SOURCE) when a name to remove leads out of the submodule.
    """
    rows: list[bytes] = []
    entries = git.list_index()
    for backend in sorted(backends):
        sources = tuple(f"{one}/" for one in extensions_of(backend))
        target = f"{folder_of(backend)}/"
        removed: list[str] = []
        for entry in entries:
            source = next((one for one in sources if entry.path.startswith(one)), None)
            if source is None:
                continue
            name = entry.path.removeprefix(source)
            if name == DELETED:
                text = git.run("cat-file", "blob", entry.oid).stdout
                removed = text.decode("utf-8", "surrogateescape").splitlines()
            else:
                rows.append(_row(entry.mode, entry.oid, target + name))
        for name in filter(None, (line.strip() for line in removed)):
            if name.startswith("/") or ".." in name.split("/"):
                raise _leads_out(f"{backend}: {DELETED}", name)
            rows.append(_row("0", "0" * len(entries[0].oid), target + name))
    if rows:
        git.run("update-index", "--replace", "-z", "--index-info", stdin=b"".join(rows))
    return git.text("write-tree")


def is_rooted(diff: bytes, backend: str) -> bool:
    """Whether a backend's diff is one of FlagScale's own files, not of the submodule's."""
    mark = f"diff --git a/{extension_of(backend)}/".encode()
    return diff.startswith(mark) or b"\n" + mark in diff


def _row(mode: str, oid: str, path: str) -> bytes:
    return f"{mode} {oid}\t{path}\0".encode("utf-8", "surrogateescape")


def _difference(git: Git, before: str, after: str, name: str) -> tuple[Diff, ...]:
    if before == after:
        return ()
    attributes = git.git_dir / "info" / "attributes"
    attributes.write_text(attributes.read_text() + _ALL_BINARY)
    words = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames")
    return (Diff(name, git.run(*words, before, after).stdout),)


def _looked_at(diff: Diff, backend: str) -> tuple[bool, Iterable[bytes]]:
    """Whether a diff is one of ``flagscale/backends/<backend>``, and its content again."""
    chunks = iter([diff.content] if isinstance(diff.content, bytes) else diff.content)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    return is_rooted(head, backend), chain((head,), chunks)


def _finished(diff: Diff) -> Iterator[bytes]:
    last = b"\n"
    for chunk in [diff.content] if isinstance(diff.content, bytes) else diff.content:
        last = chunk[-1:] or last
        yield chunk
    if last != b"\n":
        yield b"\n"


def _leads_out(where: str, name: str) -> RelforgeError:
    return RelforgeError(
        "a file that is to be removed lies outside the submodule",
        code=ExitCode.SOURCE,
        where=where,
        why=f"it names {name!r}",
        hint="ask the patch's maker for a corrected one",
    )
