"""What each step comes to at a git remote: the references to move, and what a reader would see."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relforge.addresses import shown
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import sha256_hex
from relforge.manifest.publishing import GitTarget
from relforge.publishing.published import RECORD, Published
from relforge.publishing.target import Change, Delivery, Doing, Step
from relforge.publishing.targets import git_withdrawn
from relforge.publishing.targets.git_content import (
    Content,
    Folder,
    blob_ids,
    changes_of,
    commit,
    created_s,
    files_of,
    folder_of,
    identity_environment,
    since_digest,
    with_notes,
    write_blobs,
)
from relforge.publishing.targets.git_remote import GitRemote, Update


@dataclass(frozen=True)
class Names:
    """What one release is called at a remote."""

    branch: str
    candidate: str
    tag: str
    folder: str

    @classmethod
    def of(cls, published: Published, spec: GitTarget) -> Names:
        """Raises RelforgeError (USAGE) for a path that leaves the repository."""
        name = label(published.release, published.image_digest)
        return cls(
            branch=f"refs/heads/{spec.branch}",
            candidate=f"refs/heads/candidate/{name}",
            tag=f"refs/tags/{name}",
            folder=folder_of(published, spec.path),
        )


def label(release: str, digest: str) -> str:
    """The tag of one image of a release."""
    return f"{release}-{digest.removeprefix('sha256:')[:12]}"


def plain(ref: str) -> str:
    """A branch or tag as people call it."""
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


@dataclass
class Work:
    """What a step comes to. ``content`` are the release's files, ``seen`` is where a reader finds
    them afterwards."""

    seen: str
    content: Content = field(default_factory=dict)
    updates: list[Update] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def move(self, ref: str, before: str | None, after: str | None) -> None:
        """A branch that begins, goes on or ends."""
        action: Literal["add", "remove", "replace"] = "replace"
        if before is None or after is None:
            action = "add" if before is None else "remove"
        self.updates.append(Update(ref, before, after))
        self.changes.append(
            Change(action=action, kind="commit", name=plain(ref), before=before, after=after)
        )

    def tag(self, ref: str, before: str | None, after: str | None) -> None:
        """A tag that comes or goes."""
        self.updates.append(Update(ref, before, after))
        action: Literal["add", "remove"] = "add" if before is None else "remove"
        self.changes.append(
            Change(action=action, kind="tag", name=plain(ref), before=before, after=after)
        )


class Steps:
    """One release at one open remote. Everything raises RelforgeError (PUBLISH) and TryAgain."""

    def __init__(
        self, remote: GitRemote, published: Published, spec: GitTarget, target: str
    ) -> None:
        self._remote = remote
        self._published = published
        self._spec = spec
        self._target = target
        self._names = Names.of(published, spec)
        self._label = label(published.release, published.image_digest)
        record = sha256_hex((published.folder / RECORD).read_bytes())
        self._trailer = f"Image: {published.image_digest}\nRecord: sha256:{record}\n"

    def work(self, step: Step, doing: Doing) -> Work:
        """What a step would come to now; at the remote nothing changes."""
        names = self._names
        found = self._remote.bring(names.branch, names.candidate, names.tag)
        there = self._folder(found.get(names.branch))
        if step == "withdraw":
            return self._withdrawal(found, there, doing)
        self._refuse_withdrawn(there)
        self._refuse_other_tag(found)
        content = with_notes(self._published, files_of(self._published), there, self._before(there))
        wanted = blob_ids(content)
        if step == "promote":
            return self._promotion(found, there, wanted, content)
        return self._candidacy(found, there, wanted, content)

    def push(self, work: Work) -> int:
        """Moves the references, all or none; returns about how many bytes were sent."""
        return self._remote.push(work.updates)

    def _folder(self, commit_: str | None) -> Folder:
        return Folder.read(self._remote, commit_, self._names.folder)

    def _before(self, there: Folder) -> Folder:
        """The folder as the release before this one left it, also where this one is there by now:
        then its notes say which it was, and that one's tag leads to it."""
        same = there.digest == self._published.image_digest
        since = since_digest(there) if same else None
        if since is None:
            return there
        tag = f"refs/tags/{label(self._published.release, since)}"
        found = self._folder(self._remote.bring(tag).get(f"{tag}^{{}}"))
        return found if found.digest == since else there

    def _candidacy(
        self,
        found: Mapping[str, str],
        there: Folder,
        wanted: Mapping[str, str],
        content: Content,
    ) -> Work:
        """The candidate's branch goes on from where it is, else it begins at the branch."""
        names = self._names
        if not _differs(there, wanted):  # everybody has it already
            return Work(names.branch, content, changes=changes_of(there, wanted, content))
        base = found.get(names.candidate)
        folder = there if base is None else self._folder(base)
        work = Work(names.candidate, content, changes=changes_of(folder, wanted, content))
        if base is None or _differs(folder, wanted):
            made = self._commit(base or found.get(names.branch), folder, wanted, content)
            work.move(names.candidate, base, made)
        return work

    def _promotion(
        self,
        found: Mapping[str, str],
        there: Folder,
        wanted: Mapping[str, str],
        content: Content,
    ) -> Work:
        names, base = self._names, found.get(self._names.branch)
        work = Work(names.tag, content, changes=changes_of(there, wanted, content))
        head = base
        if base is None or _differs(there, wanted):
            head = self._commit(base, there, wanted, content)
            work.move(names.branch, base, head)
        assert head is not None
        if names.tag in found:
            tag = Change(action="same", kind="tag", name=plain(names.tag), after=found[names.tag])
            work.changes.append(tag)
        else:
            work.tag(names.tag, None, self._tag(head))
        if names.candidate in found:
            work.move(names.candidate, found[names.candidate], None)
        return work

    def require_candidate(self, work: Work) -> None:
        """Only what waited as a candidate reaches the branch that people read."""
        if not any(update.ref == self._names.branch for update in work.updates):
            return
        waiting = next((u.before for u in work.updates if u.ref == self._names.candidate), None)
        folder = self._folder(waiting)
        # The notes are made against what is on the branch now.
        own = blob_ids(files_of(self._published))
        other = sorted(name for name in own if folder.blobs.get(name) != own[name])
        if not other:
            return
        raise RelforgeError(
            "this release is no candidate"
            if waiting is None
            else "the candidate is not what would be promoted",
            code=ExitCode.PUBLISH,
            where=f"{shown(self._spec.url)} {plain(self._names.candidate)}",
            why="there is no such branch"
            if waiting is None
            else f"other there: {', '.join(other[:5])}",
            hint=f"relforge publish --release {self._published.release} --target {self._target}",
        )

    def _refuse_other_tag(self, found: Mapping[str, str]) -> None:
        """A tag names one image for good. Another card of the same image needs no other tag."""
        tag = self._names.tag
        if tag not in found:
            return
        target = found.get(f"{tag}^{{}}", found[tag])
        kind = self._remote.run("cat-file", "-t", target, check=False).text
        folder = self._folder(target if kind == "commit" else None)
        digest = self._published.image_digest
        if folder.digest != digest:
            what = f"image {folder.digest}" if folder.digest else "no record of this release"
            raise RelforgeError(
                f"the tag {plain(tag)} is another release's, and tags never move",
                code=ExitCode.PUBLISH,
                where=shown(self._spec.url),
                why=f"it points to {kind or 'object'} {target} with {what}; this release is image "
                f"{digest}",
                hint="find out who set the tag; delete it by hand only when nobody relies on it",
            )

    def _refuse_withdrawn(self, there: Folder) -> None:
        listed = there.get(git_withdrawn.LIST)
        known = git_withdrawn.withdrawn(listed, self._published.image_digest)
        if known is not None:
            date, reason = known
            raise self._remote.failed(
                f"{self._label} was withdrawn on {date}",
                reason,
                "publish another build; or, if it was withdrawn by mistake, delete its line in "
                f"{git_withdrawn.LIST} on branch {self._spec.branch}",
            )

    def _withdrawal(self, found: Mapping[str, str], there: Folder, doing: Doing) -> Work:
        names, work = self._names, Work(self._names.branch)
        self._refuse_other_tag(found)
        put, content, reason = self._marked(found, there, doing.reason)
        if put:
            part = {name: oid for name, oid in there.blobs.items() if name in put}
            before = Folder(self._remote, None, there.path, part)
            work.changes = changes_of(before, put, content)
        if any(change.action != "same" for change in work.changes):
            write_blobs(self._remote, content, put)
            made = commit(
                self._remote,
                found.get(names.branch),
                names.folder,
                put,
                (),
                message=f"Withdraw {self._label}\n\n{reason}\n\n{self._trailer}",
                epoch=int(time.time()),
            )
            work.move(names.branch, found.get(names.branch), made)
        if names.tag in found:
            name = plain(names.tag)
            doing.line(
                f"the tag {name} is deleted at the remote; who has fetched it keeps it until "
                f"git tag --delete {name}"
            )
            work.tag(names.tag, found[names.tag], None)
        if names.candidate in found:
            work.move(names.candidate, found[names.candidate], None)
        return work

    def _marked(
        self, found: Mapping[str, str], there: Folder, reason: str
    ) -> tuple[Mapping[str, str], Content, str]:
        """The list of withdrawn images, and the cards where they are still this image's. Nothing
        where nobody ever saw it."""
        digest = self._published.image_digest
        listed = there.get(git_withdrawn.LIST)
        known = git_withdrawn.withdrawn(listed, digest)
        seen = there.digest == digest
        if not seen and self._names.tag not in found:
            return {}, {}, reason
        today = time.strftime("%Y-%m-%d", time.gmtime())
        date, reason = known or (today, reason or "no reason was given")
        content: Content = {}
        if known is None:
            content[git_withdrawn.LIST] = git_withdrawn.listed_with(listed, digest, date, reason)
        for name in git_withdrawn.CARDS if seen else ():
            if (card := there.get(name)) is not None:
                content[name] = git_withdrawn.card_with(name, card, digest, date, reason)
        return blob_ids(content), content, reason

    def drop_candidate(self, delivery: Delivery) -> None:
        """Takes a candidate's branch back to what it was, where it is still as it was left."""
        ref = self._names.candidate
        moved = next((c for c in delivery.changes if c.kind == "commit"), None)
        now = self._remote.references(ref).get(ref)
        if moved is not None and moved.name == plain(ref) and now == moved.after:
            self._remote.push([Update(ref, now, moved.before)])

    def revert(self, delivery: Delivery) -> None:
        """Takes a promotion back by a commit more, and the release is a candidate again."""
        names = self._names
        moved = next(
            (c for c in delivery.changes if (c.kind, c.name) == ("commit", plain(names.branch))),
            None,
        )
        tagged = any(c.kind == "tag" and c.action == "add" for c in delivery.changes)
        found = self._remote.bring(names.branch, names.candidate, names.tag)
        updates = []
        if moved is not None and names.branch in found:
            made, there = self._folder(moved.after), self._folder(found[names.branch])
            if made.blobs == there.blobs:
                updates.append(Update(names.branch, found[names.branch], self._back(moved, there)))
                if names.candidate not in found:
                    updates.append(Update(names.candidate, None, moved.after))
        if tagged and names.tag in found:
            updates.append(Update(names.tag, found[names.tag], None))
        if updates:
            self._remote.push(updates)

    def _back(self, moved: Change, there: Folder) -> str:
        before = self._folder(moved.before)
        return commit(
            self._remote,
            there.commit,
            there.path,
            before.blobs,
            set(there.blobs) - set(before.blobs),
            message=f"Take back {self._label}\n\n{self._trailer}",
            epoch=int(time.time()),
        )

    def _commit(
        self, parent: str | None, folder: Folder, wanted: Mapping[str, str], content: Content
    ) -> str:
        write_blobs(self._remote, content, wanted)
        return commit(
            self._remote,
            parent,
            folder.path,
            wanted,
            folder.ours() - set(wanted),
            message=f"Release {self._label}\n\n{self._trailer}",
            epoch=created_s(self._published),
        )

    def _tag(self, target: str) -> str:
        """An annotated tag; the same for the same commit, wherever it is made."""
        epoch = created_s(self._published)
        env = identity_environment(self._remote, epoch)
        who = f"{env['GIT_COMMITTER_NAME']} <{env['GIT_COMMITTER_EMAIL']}>"
        text = (
            f"object {target}\ntype commit\ntag {self._label}\ntagger {who} {epoch} +0000\n\n"
            f"Release {self._label}\n\n{self._trailer}"
        )
        return self._remote.run("mktag", stdin=text.encode()).text


def _differs(there: Folder, wanted: Mapping[str, str]) -> bool:
    return any(there.blobs.get(name) != oid for name, oid in wanted.items()) or bool(
        there.ours() - set(wanted)
    )
