"""What lies in the folder of a release at a git remote, and the commits that change it."""

from __future__ import annotations

import calendar
import hashlib
import json
import posixpath
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.notes.record import Record, read_record, record_of
from relforge.publishing.published import CONTENTS, HUB_CARDS, RECORD, SEAL, Published
from relforge.publishing.target import Change
from relforge.publishing.targets.git_remote import GitRemote

NOTES = {"NOTES.md": "en", "NOTES_zh.md": "zh"}
_OURS = "relforge"
_ADDRESS = "relforge@invalid"
_MARK = "<!-- relforge:notes since="
# The image has registries; weights, scores and cards with another head have hubs.
_ELSEWHERE = ("image/", "weights/", ".eval_results/", HUB_CARDS)
_GONE = "0" * 40
_CHUNK = 1 << 20

Content = dict[str, bytes | Path]
"""Files by their paths below the release's folder."""


def folder_of(published: Published, pattern: str) -> str:
    """The release's folder in the repository; empty for the repository's own root.

    Raises RelforgeError (USAGE) for one that would lie elsewhere.
    """
    filled = published.fill(pattern)
    parts = posixpath.normpath(filled).split("/")
    if filled.startswith("/") or ".." in parts or any(part.lower() == ".git" for part in parts):
        raise RelforgeError(
            f"{filled!r} is no folder of a repository",
            code=ExitCode.USAGE,
            hint="give the target a relative path, such as {release}",
        )
    return "" if parts == ["."] else "/".join(parts)


def files_of(published: Published) -> Content:
    """Cards, evidence, record and contents of a published folder."""
    names = [name for name in published.files if not name.startswith(_ELSEWHERE)]
    return {name: published.folder / name for name in (*names, *published.unlisted)}


@dataclass(frozen=True)
class Folder:
    """A folder of a commit. ``blobs`` maps paths below it to git's hashes of their contents."""

    remote: GitRemote
    commit: str | None
    path: str
    blobs: Mapping[str, str]
    _read: dict[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, remote: GitRemote, commit: str | None, path: str) -> Folder:
        """Names and hashes alone. Raises RelforgeError (PUBLISH) where a file is in the way."""
        if commit is None:
            return cls(remote, None, path, {})
        tree = f"{commit}:{path}"
        kind = remote.run("cat-file", "-t", tree, check=False).text
        if kind != "tree":
            _refuse_file_in_the_way(remote, commit, path)
            return cls(remote, commit, path, {})
        listing = remote.git.list_tree(tree, sizes=False)
        return cls(remote, commit, path, {entry.path: entry.oid for entry in listing})

    def get(self, name: str) -> bytes | None:
        """The content of a file, fetched where it is not here yet."""
        if name not in self.blobs:
            return None
        if name not in self._read:
            self._read[name] = self.remote.content(self.blobs[name])
        return self._read[name]

    def record(self) -> dict[str, Any] | None:
        """The release record in it; None where there is none, or it cannot be read."""
        try:
            found = json.loads(self.get(RECORD) or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    @property
    def digest(self) -> str | None:
        """Of the image that the record here is about."""
        found = (self.record() or {}).get("image_digest")
        return found if isinstance(found, str) else None

    def ours(self) -> set[str]:
        """What an earlier publication put here, so that the next may take it away again."""
        try:
            listed = set(json.loads(self.get(CONTENTS) or b"{}").get("files", ()))
        except (ValueError, AttributeError):
            listed = set()
        listed |= {RECORD, CONTENTS, SEAL, *NOTES}
        return {name for name in self.blobs if name in listed}


def _refuse_file_in_the_way(remote: GitRemote, commit: str, path: str) -> None:
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        above = "/".join(parts[:count])
        kind = remote.run("cat-file", "-t", f"{commit}:{above}", check=False).text
        if kind and kind != "tree":
            raise remote.failed(
                f"{above} is no folder in the repository",
                f"it is a {kind} in commit {commit[:12]}",
                "give the target another path in the site configuration",
            )


def with_notes(published: Published, content: Content, there: Folder, before: Folder) -> Content:
    """The files and the release notes, from the release that *before* has to this one.

    Where it is the same image as *there* already, and nobody knows the one before, the notes that
    lie there stay.
    """
    new = read_record(published.folder)
    previous = _previous(new, before)
    if previous is None and there.digest == published.image_digest and since_digest(there):
        kept = {name: there.get(name) for name in NOTES}
        return {**content, **{name: data for name, data in kept.items() if data}}
    since = previous.image_digest if previous else "none"
    return {**content, **_notes(previous, new, since)}


def _notes(previous: Record | None, new: Record, since: str) -> Content:
    from relforge.notes.compare import compare_records
    from relforge.notes.render import render

    notes = compare_records(previous, new)
    mark = f"\n{_MARK}{since} -->\n"
    return {
        name: f"{render(notes, 'zh' if language == 'zh' else 'en')}{mark}".encode()
        for name, language in NOTES.items()
    }


def since_digest(folder: Folder) -> str | None:
    """The image that the notes in a folder compare with; None for a first release."""
    text = (folder.get("NOTES.md") or b"").decode("utf-8", "replace")
    found = text.rpartition(_MARK)[2].partition(" -->")[0]
    return found if found.startswith("sha256:") else None


def notes_text(content: Content) -> str:
    """The English notes without relforge's own mark."""
    data = content.get("NOTES.md", b"")
    text = (data if isinstance(data, bytes) else data.read_bytes()).decode()
    return text.rpartition(_MARK)[0].strip() + "\n" if _MARK in text else text


def _previous(new: Record, before: Folder) -> Record | None:
    """The earlier release with its answers, so that accuracy is compared question by question."""
    parsed = before.record()
    if parsed is None or parsed.get("image_digest") == new.image_digest:
        return None
    place = before.remote.git.index
    assert place is not None
    folder = place.parent / "before"
    for name in before.blobs:
        if name.startswith("evidence/evaluation"):
            write_atomic(folder / name, before.get(name) or b"")
    try:
        found = record_of(parsed, where=f"{before.path}/{RECORD}", folder=folder)
    except RelforgeError:
        # Whoever put another file of that name there made no release.
        return None
    same = (found.model, found.device) == (new.model, new.device)
    return found if same else None


def blob_ids(content: Content) -> dict[str, str]:
    """Git's hashes of the contents: SHA-1 of ``blob SIZE``, a zero byte, and the content."""
    found = {}
    for name, data in content.items():
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        if isinstance(data, bytes):
            digest.update(data)
        else:
            with data.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        found[name] = digest.hexdigest()
    return found


def write_blobs(remote: GitRemote, content: Content, ids: Mapping[str, str]) -> None:
    """Makes the contents objects here. Raises RelforgeError (PUBLISH) where a file is another by
    now than its hash says."""
    paths = {name: data for name, data in content.items() if isinstance(data, Path)}
    asked = "".join(f"{path.absolute()}\n" for path in paths.values()).encode()
    done = remote.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=asked)
    written = dict(zip(paths, done.text.split(), strict=True))
    for name, data in content.items():
        if isinstance(data, bytes):
            written[name] = remote.run("hash-object", "-w", "--stdin", stdin=data).text
    for name, oid in written.items():
        if oid != ids[name]:
            raise remote.failed(
                f"{name} changed while it was published", f"{ids[name]} is {oid} now", "try again"
            )


def changes_of(before: Folder, after: Mapping[str, str], content: Content) -> list[Change]:
    """File by file; ``after`` are the hashes of all files of ours."""
    changes = []
    for name in sorted({*after, *before.ours()}):
        was, now = before.blobs.get(name), after.get(name)
        place = posixpath.join(before.path, name)
        if now is None:
            changes.append(Change(action="remove", kind="file", name=place, before=was))
        elif was == now:
            changes.append(Change(action="same", kind="file", name=place, before=was, after=now))
        else:
            data = content[name]
            size = len(data) if isinstance(data, bytes) else data.stat().st_size
            action = "add" if was is None else "replace"
            changes.append(
                Change(action=action, kind="file", name=place, bytes=size, before=was, after=now)
            )
    return changes


def commit(
    remote: GitRemote,
    parent: str | None,
    folder: str,
    put: Mapping[str, str],
    remove: Iterable[str],
    *,
    message: str,
    epoch: int,
) -> str:
    """A commit on *parent* in which only these files of one folder are others; returns its hash.

    The same input gives the same commit, wherever it is made with one identity.
    """
    index = remote.git.index
    assert index is not None
    index.unlink(missing_ok=True)
    if parent is not None:
        remote.run("read-tree", parent)
    rows = [f"0 {_GONE}\t{posixpath.join(folder, name)}\0" for name in remove]
    rows += [f"100644 {oid}\t{posixpath.join(folder, name)}\0" for name, oid in put.items()]
    remote.run("update-index", "-z", "--index-info", stdin="".join(rows).encode())
    # Files of others are not here where the server could leave them out; their hashes are.
    tree = remote.run("write-tree", "--missing-ok").text
    parents = ("-p", parent) if parent else ()
    env = identity_environment(remote, epoch)
    done = remote.git.run("commit-tree", tree, *parents, "-F", "-", stdin=message.encode(), env=env)
    return done.text


def identity_environment(remote: GitRemote, epoch: int) -> dict[str, str]:
    """Who a commit or tag is by, and when: the person's git identity, else relforge's own."""
    name, email = remote.identity() or (_OURS, _ADDRESS)
    return {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", name), ("EMAIL", email), ("DATE", f"@{epoch} +0000"))
    }


def created_s(published: Published) -> int:
    """When the record was written, in seconds since 1970."""
    return calendar.timegm(time.strptime(published.record["created"], "%Y-%m-%dT%H:%M:%SZ"))
