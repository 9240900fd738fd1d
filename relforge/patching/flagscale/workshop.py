"""Trees and diffs for making entries: in a private area, with the user's repository only read."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.source import Diff, Whitespace
from relforge.patching.tree.apply import AppliedTree, apply_patches
from relforge.patching.tree.private_keys import looks_private, would_publish

EVERYTHING = "**"
_ALL = ":(top)"


@dataclass(frozen=True)
class Workshop:
    """A private repository that reads a user's one: its commits, and its working tree's state."""

    source: Git
    area: Path
    git: Git
    cancel: CancelToken | None = None

    @classmethod
    def at(cls, area: Path, source: Git, base_tree: str, cancel: CancelToken | None) -> Workshop:
        """Makes one in a folder of a work area. Raises RelforgeError (SOURCE)."""
        area.mkdir(mode=0o700)
        git = apply_patches(
            source.git_dir, base_tree, (), object_dir=area / "objects", work=area, cancel=cancel
        ).git
        # Without it, history would seem to end in the middle of a shallow clone.
        with contextlib.suppress(FileNotFoundError):
            (git.git_dir / "shallow").write_bytes((source.git_dir / "shallow").read_bytes())
        return cls(source, area, git, cancel)

    def treat_as_binary(self, paths: Collection[str]) -> None:
        """From here on these files' diffs are binary ones, which no tool alters on its way."""
        attributes = self.git.git_dir / "info" / "attributes"
        lines = [_attribute_line(path) for path in sorted(paths)]
        if EVERYTHING in paths:
            lines = [b"* -diff\n"]
        attributes.write_bytes(b"* -text -eol -crlf -ident -filter\n" + b"".join(lines))

    def with_paths_of(self, tree: str, other: str, paths: Sequence[str]) -> str:
        """A tree in which some folders or files are those of another tree."""
        git = self.git
        git.run("read-tree", tree)
        specs = [f":(top,literal){path}" for path in paths]
        there = git.run("ls-files", "-z", "--full-name", "--", *specs).stdout
        gone = b"".join(b"0 %b\t%b\0" % (b"0" * 40, one) for one in there.split(b"\0") if one)
        rows = git.run("ls-tree", "-r", "-z", "--full-tree", other, *paths).stdout
        git.run("update-index", "-z", "--index-info", stdin=gone + rows)
        return git.text("write-tree")

    def state_of(
        self, work_tree: Path, excluded: Sequence[str], *, untracked: bool
    ) -> tuple[str, tuple[str, ...]]:
        """The tree of a working tree's tracked files, and the untracked ones that it has besides.

        Files that are staged count; ignored ones never do. ``excluded`` stays as it is in the
        index. Raises RelforgeError (SOURCE) for an unfinished merge.
        """
        rows = self.source.run("ls-files", "-s", "-z").stdout
        if any(row.split(b"\t")[0].endswith((b" 1", b" 2", b" 3")) for row in rows.split(b"\0")):
            raise RelforgeError(
                "the working tree is in the middle of a merge",
                code=ExitCode.SOURCE,
                where=str(work_tree),
                hint=f"git -C {work_tree} status",
            )
        flags = self.source.run("ls-files", "-v", "-z").stdout.split(b"\0")
        kept = b"".join(one[2:] + b"\0" for one in flags if one[:1] in (b"S", b"s"))
        worker = self._on(self.git, work_tree)
        worker.run("read-tree", "--empty")
        worker.run("update-index", "-z", "--index-info", stdin=rows, cwd=work_tree)
        if kept:  # sparse checkouts lack files that nobody deleted
            worker.run(
                "update-index", "--skip-worktree", "-z", "--stdin", stdin=kept, cwd=work_tree
            )
        specs = [_ALL, *(f":(top,exclude,literal){path}" for path in excluded)]
        worker.run("add", "-u", "--", *specs, cwd=work_tree)
        others = self._on(self.source, work_tree).run(
            "ls-files", "--others", "--exclude-standard", "-z", "--", *specs, cwd=work_tree
        )
        if untracked and others.stdout:
            worker.run("update-index", "--add", "-z", "--stdin", stdin=others.stdout, cwd=work_tree)
        names = [
            one.decode("utf-8", "surrogateescape") for one in others.stdout.split(b"\0") if one
        ]
        return self.git.text("write-tree"), tuple(names)

    def _on(self, git: Git, work_tree: Path) -> Git:
        return Git(
            git.git_dir,
            object_dir=git.object_dir,
            alternates=git.alternates,
            index=git.index,
            work_tree=work_tree,
            cancel=self.cancel,
        )

    def changed(self, before: str, after: str) -> list[tuple[str, str, str]]:
        """Status letter, new blob and path of every file that differs."""
        out = self.git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", before, after).stdout
        fields = out.split(b"\0")
        rows = []
        for meta, path in zip(fields[0::2], fields[1::2], strict=False):
            _old_mode, _new_mode, _old, new, status = meta.decode().lstrip(":").split(" ")
            rows.append((status, new, path.decode("utf-8", "surrogateescape")))
        return rows

    def refuse_private_keys(self, changes: Iterable[tuple[str, str, str]]) -> None:
        """Raises RelforgeError (SOURCE) when a file to be published is a private key."""
        for status, blob, path in changes:
            if status == "D":
                continue
            done = self.git.run("cat-file", "blob", blob, check=False)
            if done.returncode == 0 and looks_private(done.stdout):
                raise would_publish(path)


def applied(
    source: Git,
    base_tree: str,
    diffs: Iterable[Diff],
    area: Path,
    *,
    whitespace: Whitespace = "exact",
    cancel: CancelToken | None = None,
) -> AppliedTree:
    """The tree that patches give. Raises RelforgeError (SOURCE) when they do not apply."""
    area.mkdir(mode=0o700)
    return apply_patches(
        source.git_dir,
        base_tree,
        diffs,
        object_dir=area / "objects",
        work=area,
        whitespace=whitespace,
        cancel=cancel,
    )


def not_proven(expected: str, got: str) -> RelforgeError:
    """The error when what was made does not give the tree it was made from."""
    return RelforgeError(
        "the patch does not give back the tree it was made from; nothing was written",
        code=ExitCode.SOURCE,
        why=f"applying it gives tree {got}, the state to publish is tree {expected}",
        hint="please report this with the two commits",
    )


def _attribute_line(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    escaped = b"".join(b"\\" + bytes([c]) if c in b"\\*?[]!" else bytes([c]) for c in raw)
    quoted = b"".join(
        b"\\" + bytes([c]) if c in b'"\\' else b"\\%03o" % c if c < 32 or c > 126 else bytes([c])
        for c in escaped
    )
    return b'"/' + quoted + b'" -diff\n'
