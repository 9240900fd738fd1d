"""What patches do to files: read from git, and compared with what a bundle's index says of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.gitio import Git
from relforge.manifest.common import TreeHash
from relforge.patching.source import Diff

_NONE = "0" * 6
_RAW = ("-z", "--raw", "--no-renames", "--full-index")


class FileChange(Frozen):
    """What happened to one file: blob hashes and modes, ``None`` where there is no file.

    A path is UTF-8; a backslash in it is written twice and any other byte as ``\\xNN``.
    """

    path: str
    before: TreeHash | None
    before_mode: str | None
    after: TreeHash | None
    after_mode: str | None


@dataclass(frozen=True)
class ClaimedDiff(Diff):
    """A patch whose maker says what it does to each file; that is compared with what it does."""

    claims: tuple[FileChange, ...] = ()


def shown_path(path: bytes) -> str:
    """A path as ``FileChange`` writes it; lossless."""
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def changes_between(git: Git, before: str, after: str) -> tuple[FileChange, ...]:
    """The files in which two trees differ."""
    if before == after:
        return ()
    return _changes_in(git.run("diff-tree", "-r", *_RAW, before, after).stdout)


def _changes_in(raw: bytes) -> tuple[FileChange, ...]:
    fields = raw.split(b"\0")
    result = []
    for meta, path in zip(fields[0::2], fields[1::2], strict=False):
        old_mode, new_mode, old, new, _status = meta.decode().lstrip(":").split(" ")
        result.append(
            FileChange(
                path=shown_path(path),
                before=None if old_mode == _NONE else old,
                before_mode=None if old_mode == _NONE else old_mode,
                after=None if new_mode == _NONE else new,
                after_mode=None if new_mode == _NONE else new_mode,
            )
        )
    return tuple(result)


def touched_paths(numstat: bytes) -> frozenset[str]:
    """The paths in what ``git apply --numstat -z`` prints; of a renamed file only the new one."""
    rows = (row.split(b"\t", 2) for row in numstat.split(b"\0"))
    return frozenset(shown_path(row[2]) for row in rows if len(row) == 3)


@dataclass(frozen=True)
class _Claimed:
    patch: str
    claims: tuple[FileChange, ...]
    touched: frozenset[str]
    index: Path

    @property
    def alone(self) -> bool:
        """Whether it touches the very files that it names, so that the end result can tell."""
        return self.touched == {change.path for change in self.claims}


class Claims:
    """Compares what an index says of each patch with what git made of it.

    Where every file is the matter of one patch alone, base and result tell everything, and nothing
    more is asked. Else git's index as it was after each patch is compared: a few milliseconds each.
    """

    def __init__(self, git: Git, base_tree: str) -> None:
        self._git = git
        self._base_tree = base_tree
        self._patches: list[_Claimed] = []

    def applied(self, diff: ClaimedDiff, touched: Iterable[frozenset[str]]) -> None:
        """Notes a patch that was just applied, and keeps the index as it is now."""
        index = self._git.index
        assert index is not None
        kept = index.with_name(f"{index.name}.{len(self._patches)}")
        try:
            os.link(index, kept)  # git replaces its index and never writes into it
        except OSError:
            shutil.copyfile(index, kept)
        paths: frozenset[str] = frozenset().union(*touched)
        self._patches.append(_Claimed(diff.name, diff.claims, paths, kept))

    def check(self, files: tuple[FileChange, ...]) -> None:
        """Compares; ``files`` is what all patches together did. Raises RelforgeError (SOURCE)."""
        if not self._patches:
            return
        if len(self._patches) == 1:
            self._compare(self._patches[0], files)
        elif self._each_file_once():
            done = {change.path: change for change in files}
            for patch in self._patches:
                mine = [done.pop(path) for path in sorted(patch.touched) if path in done]
                self._compare(patch, mine)
            # What is left was touched by no patch, which git does not do.
            assert not done
        else:
            before: dict[str, FileChange] = {}
            for patch in self._patches:
                after = {change.path: change for change in self._since_base(patch.index)}
                self._compare(patch, _step(before, after))
                before = after

    def _each_file_once(self) -> bool:
        paths = [path for patch in self._patches for path in patch.touched]
        return len(paths) == len(set(paths)) and all(patch.alone for patch in self._patches)

    def _since_base(self, index: Path) -> tuple[FileChange, ...]:
        git = self._git.with_index(index)
        return _changes_in(git.run("diff-index", "--cached", *_RAW, self._base_tree).stdout)

    def _compare(self, patch: _Claimed, done: Sequence[FileChange]) -> None:
        claims = {change.path: change for change in patch.claims}
        real = {change.path: change for change in done}
        wrong = {path for path in {*claims, *real} if claims.get(path) != real.get(path)}
        if not wrong and len(claims) == len(patch.claims):
            return
        path = min(wrong, default=min(claims, default=""))
        raise RelforgeError(
            "the bundle's index lies about its patches",
            code=ExitCode.SOURCE,
            where=f"{patch.patch}: {path}",
            why=f"the index says that {_told(claims.get(path))}; applying it, "
            f"{_told(real.get(path))}"
            if wrong
            else "the index names the file twice",
            hint="get the bundle again from its maker, sealed with `relforge patch seal`, which "
            "writes the index from what the patches do",
        )


def _step(before: dict[str, FileChange], after: dict[str, FileChange]) -> list[FileChange]:
    """What one patch did, from what had changed since the base before and after it."""
    found = []
    for path in {*before, *after}:
        old, new = before.get(path), after.get(path)
        base = old or new
        assert base is not None
        start = (old.after, old.after_mode) if old else (base.before, base.before_mode)
        end = (new.after, new.after_mode) if new else (base.before, base.before_mode)
        if start != end:
            found.append(
                FileChange(
                    path=path,
                    before=start[0],
                    before_mode=start[1],
                    after=end[0],
                    after_mode=end[1],
                )
            )
    return found


def _told(change: FileChange | None) -> str:
    if change is None:
        return "the file stays as it is"
    before = f"{change.before_mode} {change.before}" if change.before else "no file"
    after = f"{change.after_mode} {change.after}" if change.after else "no file"
    return f"{before} becomes {after}"
