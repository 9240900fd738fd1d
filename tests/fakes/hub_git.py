"""Repositories of the stand-in hubs: commits of whole trees, branches, tags, merges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Blob:
    """A file's content; ``large`` are not in git but in the store beside it."""

    data: bytes
    large: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_sha1(self) -> str:
        """Git's name for it; of a large file, for the pointer that stands in its place."""
        data = self.data
        if self.large:
            data = (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:"
                + self.sha256.encode()
                + b"\nsize %d\n" % len(data)
            )
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


Tree = Mapping[str, Blob]


@dataclass(frozen=True)
class Commit:
    oid: str
    tree: Tree
    parents: tuple[str, ...]
    title: str
    author: str


@dataclass
class Pull:
    number: int
    title: str
    author: str
    status: str
    description: str = ""
    comments: list[str] = field(default_factory=list)


class Repository:
    """``refs`` are branches (``main``), tags (``tags/X``) and pull requests (``pr/N``)."""

    def __init__(self, main: str, *, private: bool = False, author: str = "hub") -> None:
        self.main = main
        self.private = private
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.pulls: dict[int, Pull] = {}
        self.commit(main, {".gitattributes": Blob(b"*.bin filter=lfs\n")}, "initial", author)

    def commit(
        self, ref: str, tree: Tree, title: str, author: str, parents: tuple[str, ...] | None = None
    ) -> Commit:
        """A commit with this whole tree on the branch."""
        if parents is None:
            parents = (self.refs[ref],) if ref in self.refs else ()
        name = f"{len(self.commits)} {parents} {title} {author}"
        made = Commit(
            hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(),
            dict(tree),
            parents,
            title,
            author,
        )
        self.commits[made.oid] = made
        self.refs[ref] = made.oid
        return made

    def at(self, revision: str) -> Commit | None:
        """By commit, branch, tag or ``refs/pr/N``."""
        revision = revision.removeprefix("refs/")
        for name in (revision, f"tags/{revision}"):
            if name in self.refs:
                return self.commits[self.refs[name]]
        return self.commits.get(revision)

    def history(self, oid: str) -> list[Commit]:
        """It and its ancestors by first parents, newest first."""
        found = []
        current: str | None = oid
        while current is not None:
            found.append(self.commits[current])
            current = found[-1].parents[0] if found[-1].parents else None
        return found

    def merge(self, number: int, author: str) -> bool:
        """Merges a pull request; False where both sides changed the same file."""
        head = self.commits[self.refs[f"pr/{number}"]]
        main = self.commits[self.refs[self.main]]
        on_main = {commit.oid for commit in self.history(main.oid)}
        base = next(c for c in self.history(head.oid) if c.oid in on_main)
        tree = dict(main.tree)
        for path in {*base.tree, *head.tree}:
            old, new, now = base.tree.get(path), head.tree.get(path), main.tree.get(path)
            if old == new:
                continue
            if now not in (old, new):
                return False
            if new is None:
                tree.pop(path, None)
            else:
                tree[path] = new
        self.commit(self.main, tree, f"Merge #{number}", author, (main.oid, head.oid))
        self.pulls[number].status = "merged"
        return True

    def files(self, revision: str | None = None) -> dict[str, bytes]:
        """What a reader gets."""
        commit = self.at(revision or self.main)
        return {path: blob.data for path, blob in commit.tree.items()} if commit else {}

    def edit(self, path: str, data: bytes | None, author: str, title: str = "Edit") -> None:
        """A commit of somebody else's on the page of the hub."""
        tree = dict(self.commits[self.refs[self.main]].tree)
        if data is None:
            del tree[path]
        else:
            tree[path] = Blob(data)
        self.commit(self.main, tree, title, author)
