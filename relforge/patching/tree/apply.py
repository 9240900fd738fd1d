"""Applying patches to a tree without a checkout: an index and an object folder of their own.

Git runs on a bare repository that is made for this one purpose inside the caller's work area; the
store (or a user's repository) is only read, as an alternate. Nothing of the user's configuration,
index, identity, hooks or attributes takes part, and each patch reaches git over a pipe.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, neutral_attributes
from relforge.patching.mailbox import EncodedDiff, pieces
from relforge.patching.source import Diff, Graft, Whitespace
from relforge.patching.tree.changes import (
    ClaimedDiff,
    Claims,
    FileChange,
    changes_between,
    shown_path,
    touched_paths,
)

__all__ = ["AppliedTree", "FileChange", "apply_patches", "repository_objects", "shown_path"]

_GITLINK = "160000"
_LINK = "120000"
_FAILED_AT = re.compile(r"^error: patch failed: (?P<path>.*):(?P<line>\d+)$", re.MULTILINE)
_DOES_NOT_FIT = re.compile(
    r"^error: (?P<path>.*): (?P<why>patch does not apply|does not exist in index|"
    r"already exists in index|wrong type|does not match index)$",
    re.MULTILINE,
)
_UNSAFE = re.compile(
    r"^error: (?:(?:invalid path|affected file) )?'(?P<path>[^']*)'"
    r"(?P<why> is beyond a symbolic link)?",
    re.MULTILINE,
)
_NO_DIFF = ("No valid patches in input", "unrecognized input")
_PROTECT = {"core.protectHFS": "true", "core.protectNTFS": "true"}
_PIPE_BUFFER = 1 << 18
_KEPT_FOR_DIAGNOSIS = 4 << 20


@dataclass(frozen=True)
class AppliedTree:
    """The tree after all patches. Its new objects lie in ``object_dir`` alone.

    ``files`` compares base and result; ``per_patch`` does so for each patch, and ``trees`` has the
    tree after each, where that was asked for (else they are empty). The index of ``git`` holds the
    tree.
    """

    tree: str
    base_tree: str
    files: tuple[FileChange, ...]
    per_patch: tuple[tuple[FileChange, ...], ...]
    git: Git
    trees: tuple[str, ...] = ()


def apply_patches(
    store_git_dir: Path,
    base_tree: str,
    diffs: Iterable[Diff],
    *,
    object_dir: Path,
    work: Path,
    grafts: Sequence[Graft] = (),
    whitespace: Whitespace = "exact",
    per_patch: bool = False,
    cancel: CancelToken | None = None,
) -> AppliedTree:
    """Applies patches, in order, to a tree of the store with ``grafts`` in their folders.

    ``object_dir`` and ``work`` belong in a private work area; ``work`` gets a bare repository.
    An error that a diff's chunks raise passes through. Raises RelforgeError
    (SOURCE) naming the patch and the file: when it does not apply, writes outside the tree, through
    a link or into ``.git``, adds or moves a submodule, or adds a link that leaves the tree; and
    when it does other things to files than a ``ClaimedDiff`` says.
    """
    stores = [store_git_dir, *(graft.git_dir for graft in grafts)]
    git = _private_repository(stores, base_tree, object_dir, work, cancel)
    _read_tree(git, base_tree, store_git_dir)
    for graft in grafts:
        _clear(git, graft.folder)
        _read_tree(git, graft.tree, graft.git_dir, "-i", f"--prefix={graft.folder}/")
    if grafts:
        base_tree = git.text("write-tree")
    claims = Claims(git, base_tree)
    by_patch: list[tuple[FileChange, ...]] = []
    trees: list[str] = []
    tree = base_tree
    for diff in diffs:
        name = diff.name
        content = _Content([diff.content] if isinstance(diff.content, bytes) else diff.content)
        options = [f"--whitespace={'nowarn' if whitespace == 'exact' else whitespace}"]
        if diff.folder:
            options.append(f"--directory={diff.folder}")
        try:
            applied = [_apply_one(git, name, piece, options) for piece in pieces(content)]
        except EncodedDiff as error:
            why = "its diff is encoded (base64 or quoted-printable)"
            raise _refused(name, None, why) from error
        touched = [paths for paths in applied if paths is not None]
        if not touched:
            raise _refused(name, None, "it holds no diff")
        if isinstance(diff, ClaimedDiff) and whitespace == "exact":
            claims.applied(diff, touched)
        # The check at the end covers everything; after a suspicious patch it can name the patch.
        if per_patch or content.names_special_modes:
            before, tree = tree, git.text("write-tree")
            changes = changes_between(git, before, tree)
            _refuse_unsafe(git, changes, name)
            by_patch += [changes] if per_patch else []
            trees += [tree] if per_patch else []
    tree = git.text("write-tree")
    files = changes_between(git, base_tree, tree)
    _refuse_unsafe(git, files, None)
    claims.check(files)
    return AppliedTree(tree, base_tree, files, tuple(by_patch), git, tuple(trees))


def _clear(git: Git, folder: str) -> None:
    # Neither `git rm` nor a pathspec: those look at the folder where the user stands.
    inside = f"{folder}/"
    there = [e for e in git.list_index() if e.path == folder or e.path.startswith(inside)]
    rows = b"".join(
        b"0 %b\t%b\0" % (b"0" * len(e.oid), e.path.encode("utf-8", "surrogateescape"))
        for e in there
    )
    git.run("update-index", "-z", "--index-info", stdin=rows)


def _read_tree(git: Git, tree: str, store: Path, *options: str) -> None:
    done = git.run("read-tree", *options, tree, check=False)
    if done.returncode == 0:
        return
    if git.has(tree, "tree"):
        raise proc.failure(done, code=ExitCode.SOURCE, what="the base of the patches is not whole")
    raise RelforgeError(
        "the base of the patches is not there",
        code=ExitCode.SOURCE,
        where=str(store),
        why=f"it holds no tree {tree}",
        hint="fetch the source at its pinned commit (a shallow clone may lack it: "
        "`git fetch --unshallow`), then run the same command again",
    )


def repository_objects(git_dir: Path) -> Path:
    """Where a repository keeps its objects; a worktree of another one keeps them there."""
    plain = git_dir / "objects"
    if plain.is_dir():
        return plain
    path = Path(Git(git_dir).text("rev-parse", "--git-path", "objects"))
    return path if path.is_absolute() else git_dir / path


def _private_repository(
    stores: Sequence[Path],
    base_tree: str,
    object_dir: Path,
    work: Path,
    cancel: CancelToken | None,
) -> Git:
    objects = [repository_objects(store) for store in stores]
    git_dir = work / "git"
    (git_dir / "refs").mkdir(parents=True, exist_ok=True)
    (git_dir / "objects").mkdir(exist_ok=True)
    object_dir.mkdir(parents=True, exist_ok=True)
    # What `git init --bare` would write, less the process. A tree hash of 64 digits is SHA-256.
    version, extension = (1, "[extensions]\n\tobjectFormat = sha256\n")
    if len(base_tree) == 40:
        version, extension = (0, "")
    (git_dir / "config").write_text(
        f"[core]\n\trepositoryFormatVersion = {version}\n\tbare = true\n"
        # Its objects live for seconds: not safe from a power cut, and no smaller than is cheap.
        f"\tcompression = 1\n\tfsync = none\n{extension}"
    )
    (git_dir / "HEAD").write_text("ref: refs/heads/none\n")
    neutral_attributes(git_dir)
    return Git(
        git_dir, object_dir=object_dir, alternates=objects, index=work / "index", cancel=cancel
    )


class _Content:
    """A patch's chunks, watched for modes of links and submodules while they go by."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.names_special_modes = False

    def __iter__(self) -> Iterator[bytes]:
        tail = b""
        for chunk in self._chunks:
            seen = tail + chunk
            if _LINK.encode() in seen or _GITLINK.encode() in seen:
                self.names_special_modes = True
            tail = seen[-len(_LINK) :]
            yield chunk


class _Feeder(threading.Thread):
    """Writes chunks into a pipe, and keeps their beginning so that an error can be explained."""

    def __init__(self, chunks: Iterator[bytes], descriptor: int) -> None:
        super().__init__(name="patch", daemon=True)
        self._chunks = chunks
        self._descriptor = descriptor
        self.beginning = b""
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            # Git has a reason of its own when it does not read on; its exit status tells.
            with (
                contextlib.suppress(BrokenPipeError),
                os.fdopen(self._descriptor, "wb", buffering=_PIPE_BUFFER) as pipe,
            ):
                for chunk in self._chunks:
                    if len(self.beginning) < _KEPT_FOR_DIAGNOSIS:
                        self.beginning += chunk
                    pipe.write(chunk)
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            self.error = error


def _apply_one(
    git: Git, name: str, piece: Iterator[bytes], options: Sequence[str]
) -> frozenset[str] | None:
    """Applies one diff to the index and says which paths it named; None when there was no diff."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    feeder = _Feeder(piece, write_end)
    feeder.start()
    try:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            done = git.run(
                "apply",
                "--cached",
                "--binary",
                "--no-ignore-whitespace",
                *("--numstat", "-z", "--apply"),
                *options,
                "-p1",
                "-",
                stdin=pipe,
                check=False,
                config=_PROTECT,
            )
    finally:
        feeder.join()
    if feeder.error is not None:
        # What git made of a patch that was not whole lies in the work area and is never looked at.
        raise feeder.error
    if done.returncode == 0:
        return touched_paths(done.stdout)
    if any(text in done.stderr.decode("utf-8", "replace") for text in _NO_DIFF):
        return None
    raise _does_not_apply(name, feeder.beginning, done)


def _does_not_apply(name: str, piece: bytes, done: proc.Done) -> RelforgeError:
    # Only the lines that name files and reasons; git may quote the patch's text in others.
    text = done.stderr.decode("utf-8", "replace")
    failed = _FAILED_AT.search(text)
    if failed:
        path, line = failed["path"], int(failed["line"])
        number = _hunk_number(piece, path, line)
        hunk = f"hunk {number} (at line {line})" if number else f"the hunk at line {line}"
        return _refused(name, path, f"{hunk} does not fit the file", applies=False)
    fits = _DOES_NOT_FIT.search(text)
    if fits:
        return _refused(name, fits["path"], fits["why"].replace("index", "tree"), applies=False)
    unsafe = _UNSAFE.search(text)
    if unsafe:
        why = (
            "it writes through a symbolic link"
            if unsafe["why"]
            else "the path leaves the tree"
            if ".git" not in unsafe["path"].lower()
            else "it writes into .git"
        )
        return _refused(name, unsafe["path"], why)
    first = next((ln for ln in text.splitlines() if ln.startswith(("error:", "fatal:"))), "")
    return _refused(name, None, first or f"git apply ended with status {done.returncode}")


def _hunk_number(piece: bytes, path: str, line: int) -> int | None:
    """Which hunk of a file's diff begins at a line, counted from 1."""
    raw = re.escape(path.encode("utf-8", "surrogateescape"))
    start = re.search(
        rb'^(?:---|\+\+\+) "?[^/\n]+/' + raw + rb'"?(?:\t.*)?\r?$', piece, re.MULTILINE
    )
    if start is None:
        return None
    rest = piece[start.end() :]
    end = re.search(rb"^diff --git ", rest, re.MULTILINE)
    hunks = re.findall(rb"^@@ -(\d+)", rest[: end.start() if end else None], re.MULTILINE)
    return hunks.index(b"%d" % line) + 1 if b"%d" % line in hunks else None


def _refuse_unsafe(git: Git, files: tuple[FileChange, ...], patch: str | None) -> None:
    for change in files:
        parts = change.path.split("/")
        if ".git" in (part.lower() for part in parts) or not {"", ".", ".."}.isdisjoint(parts):
            raise _refused(patch, change.path, "the path is not safe to write")
        if change.after_mode == _GITLINK:
            raise _refused(patch, change.path, "it adds or moves a submodule")
        if change.after_mode == _LINK and change.after is not None:
            target = git.run("cat-file", "blob", change.after).stdout
            if _leaves_tree(change.path, target):
                raise _refused(patch, change.path, "it adds a symbolic link that leaves the tree")


def _leaves_tree(path: str, target: bytes) -> bool:
    if target.startswith(b"/"):
        return True
    depth = path.count("/")
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in (b"", b"."):
            depth += 1
        if depth < 0:
            return True
    return False


def _refused(
    patch: str | None, path: str | None, why: str, *, applies: bool = True
) -> RelforgeError:
    subject = f"patch {patch}" if patch else "one of the patches"
    return RelforgeError(
        f"{subject} is refused" if applies else f"{subject} does not apply",
        code=ExitCode.SOURCE,
        where=f"{patch}: {path}" if patch and path else patch or path,
        why=why,
        hint="ask the patch's maker for a corrected one"
        if applies
        else "check that the patch set is made for this very base, and that the order is right",
    )
