"""A registry as a target: the candidate waits under its digest, promotion gives it its tags.

Every step reads the published folder's image layout and is a copy by digest, so nothing is built,
packed or named anew on the way. A tag that never moves is looked at before anything is written; one
that points to another image is an error, whoever put it there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relforge.attesting.signing import SigningKey
from relforge.attesting.withdrawing import attach, withdrawal, withdrawn
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import RegistryTarget as RegistrySpec
from relforge.manifest.site import Site
from relforge.oci.copying import CopyReport, Piece, copy, survey
from relforge.oci.layout_store import UnchangingLayout
from relforge.oci.reference import Repository, require_tag
from relforge.oci.registry import RegistryStore
from relforge.oci.tree import read_tree
from relforge.publishing.published import Published
from relforge.publishing.tags import candidate_tag, release_tags
from relforge.publishing.target import Change, Delivery, Doing, Step, TargetPlan

_KINDS = {"index": "manifest"}


class RegistryTarget:
    """``uploads`` is a folder for notes of interrupted uploads (``RegistryStore``)."""

    hides_candidates = True
    """Nobody pulls a candidate unknowingly: it has no tag that people know."""

    def __init__(
        self, name: str, spec: RegistrySpec, site: Site, *, uploads: Path | None = None
    ) -> None:
        self._name = name
        self._spec = spec
        self._site = site
        self._uploads = uploads
        self._last_layout: tuple[tuple[Path, int, int], UnchangingLayout] | None = None
        """Of which folder, and of which index there."""
        self._delivered: dict[Repository, frozenset[str]] = {}
        """Digests of all that this object has delivered as a candidate, or found there."""

    @property
    def name(self) -> str:
        return self._name

    def place(self, published: Published) -> str:
        return str(self._release(published))

    def plan(self, published: Published, step: Step) -> TargetPlan:
        doing = Doing()
        store = self._store(self._repository(published, step), doing)
        if step == "withdraw":
            changes = tuple(self._taken_back(published, store))
        else:
            report = self._survey(published, store)
            changes = (*_content(report), *self._tag_changes(published, step, store))
        return TargetPlan(target=self._name, step=step, place=store.name, changes=changes)

    def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        store = self._store(self._repository(published, step), doing)
        if step == "candidate":
            return self._candidate(published, store, doing)
        if step == "promote":
            return self._promote(published, store, doing)
        return self._withdraw(published, store, doing)

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        """Puts tags that moved back, and removes those that were new; content stays, unnamed.

        Where a registry removes by digest alone the manifest goes with its tags, unless another one
        points to it by then (``RegistryStore.delete_tags``). Raises RelforgeError (PUBLISH) then,
        and where the registry allows no deletes.
        """
        if delivery.step == "withdraw":
            return
        store = self._store(self._repository(published, delivery.step), doing)
        tags = [change for change in delivery.changes if change.kind == "tag"]
        for change in tags:
            if change.action == "replace" and change.before is not None:
                before = store.manifest(change.before)
                if before is not None and _points_to(store, change.name) == change.after:
                    store.put_manifest(before, tag=change.name)
        fresh = [change.name for change in tags if change.action == "add"]
        store.delete_tags([t for t in fresh if _points_to(store, t) == published.image_digest])

    def _candidate(self, published: Published, store: RegistryStore, doing: Doing) -> Delivery:
        tags = self._tag_changes(published, "candidate", store)
        report = copy(
            self._layout(published), store, published.image_digest, thorough=False,
            tag=tags[0].name if tags else None, line=doing.line, cancel=doing.cancel,
        )  # fmt: skip
        # Whole, or an error: the promotion that may follow in this run need not ask again.
        self._delivered[store.repository] = frozenset(piece.digest for piece in report.pieces)
        names = [f":{tag.name}" for tag in tags]
        return self._delivery(published, "candidate", store, report, tags, names)

    def _promote(self, published: Published, store: RegistryStore, doing: Doing) -> Delivery:
        digest = published.image_digest
        if (reason := withdrawn(store, digest, self._site, line=doing.line)) is not None:
            raise _was_withdrawn(store, digest, reason)
        waiting = self._waiting(published, store, doing)
        tags = self._tag_changes(published, "promote", store)
        same_host = waiting.repository.host == store.repository.host
        elsewhere = same_host and waiting.repository != store.repository
        # The waiting repository is no source: others may have attached something there, too.
        report = copy(
            self._layout(published), store, digest, thorough=False,
            mount_from=waiting.repository.name if elsewhere else None,
            line=doing.line, cancel=doing.cancel,
        )  # fmt: skip
        image = self._layout(published).manifest(digest)
        assert image is not None  # `copy` has sent it
        written = [tag for tag in tags if tag.action != "same"]
        for tag in written:
            if doing.cancel is not None:
                doing.cancel.check()
            store.put_manifest(image, tag=tag.name)
            doing.line(f"{tag.action} tag {tag.name}")
        for tag in written:
            if (found := _points_to(store, tag.name)) != digest:
                raise _other_image(store, tag.name, found, digest)
        names = [f":{tag.name}" for tag in tags]
        return self._delivery(published, "promote", store, report, tags, names)

    def _waiting(self, published: Published, store: RegistryStore, doing: Doing) -> RegistryStore:
        """Where the candidate lies, whole: with everything that the published folder has."""
        waiting = self._store(self._repository(published, "candidate"), doing)
        if waiting.repository == store.repository:
            waiting = store
        tree = read_tree(self._layout(published), published.image_digest)
        if tree.digests <= self._delivered.get(waiting.repository, frozenset()):
            return waiting
        report = self._survey(published, waiting)
        missing = [piece for piece in report.pieces if piece.state != "there"]
        if missing:
            raise RelforgeError(
                "the candidate is not there, or not whole",
                code=ExitCode.PUBLISH,
                where=f"{waiting.name}@{published.image_digest}",
                why=f"{len(missing)} of {len(report.pieces)} pieces are missing, such as the "
                f"{missing[0].kind} {missing[0].digest}",
                hint=f"relforge publish --release {published.release} --target {self._name}",
            )
        return waiting

    def _survey(self, published: Published, store: RegistryStore) -> CopyReport:
        layout = self._layout(published)
        return survey(layout, store, published.image_digest, thorough=False)

    def _withdraw(self, published: Published, store: RegistryStore, doing: Doing) -> Delivery:
        changes = tuple(self._taken_back(published, store))
        if any(change.kind == "attachment" for change in changes):
            # The statement first: whoever still has the digest learns of it. Readers who verify
            # fail on it, and it cannot be promoted again.
            self._say_so(published, store, doing)
        store.delete_tags([change.name for change in changes if change.kind == "tag"])
        return Delivery(
            target=self._name,
            step="withdraw",
            place=store.name,
            image_digest=published.image_digest,
            references=(),
            changes=changes,
            sent_bytes=store.sent_bytes,
        )

    def _say_so(self, published: Published, store: RegistryStore, doing: Doing) -> None:
        image = store.manifest(published.image_digest)
        assert image is not None  # `_taken_back` has looked
        attach(
            store,
            withdrawal(
                image.descriptor.plain,
                release=published.release,
                reason=doing.reason,
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                key=SigningKey.load(self._site),
            ),
        )
        doing.line(f"attached the statement that {published.release} is withdrawn")

    def _taken_back(self, published: Published, store: RegistryStore) -> Iterator[Change]:
        digest = published.image_digest
        there = store.manifest(digest) is not None
        if there and withdrawn(store, digest, self._site) is None:
            yield Change(action="add", kind="attachment", name="withdrawal", after=digest)
        for tag in (*release_tags(published.record), *self._spec.mutable_tags):
            if _points_to(store, tag) == digest:
                yield Change(action="remove", kind="tag", name=tag, before=digest)

    def _tag_changes(
        self, published: Published, step: Step, store: RegistryStore
    ) -> tuple[Change, ...]:
        """Raises RelforgeError (PUBLISH) where a tag that never moves is another image's."""
        digest = published.image_digest
        moving: tuple[str, ...] = ()
        if step == "candidate":
            alone = self._spec.candidate is not None and self._apart(published)
            fixed: tuple[str, ...] = (candidate_tag(digest),) if alone else ()
        else:
            fixed = release_tags(published.record)
            moving = tuple(require_tag(tag) for tag in self._spec.mutable_tags)
        changes = []
        for tag in (*fixed, *(one for one in moving if one not in fixed)):
            before = _points_to(store, tag)
            if tag in fixed and before not in (None, digest):
                raise _other_image(store, tag, before, digest)
            action = "same" if before == digest else "add" if before is None else "replace"
            changes.append(Change(action=action, kind="tag", name=tag, before=before, after=digest))
        return tuple(changes)

    def _delivery(
        self,
        published: Published,
        step: Step,
        store: RegistryStore,
        report: CopyReport,
        tags: tuple[Change, ...],
        names: list[str],
    ) -> Delivery:
        return Delivery(
            target=self._name,
            step=step,
            place=store.name,
            image_digest=published.image_digest,
            references=tuple(f"{store.name}{n}" for n in [*names, f"@{published.image_digest}"]),
            changes=(*_content(report), *tags),
            sent_bytes=store.sent_bytes,
        )

    def _release(self, published: Published) -> Repository:
        return self._parsed(published, self._spec.release)

    def _repository(self, published: Published, step: Step) -> Repository:
        if step == "candidate" and self._spec.candidate is not None:
            return self._parsed(published, self._spec.candidate)
        return self._release(published)

    def _apart(self, published: Published) -> bool:
        return self._repository(published, "candidate") != self._release(published)

    def _parsed(self, published: Published, pattern: str) -> Repository:
        return Repository.parse(published.fill(pattern, lower=True))

    def _layout(self, published: Published) -> UnchangingLayout:
        """Of one snapshot the same for all steps, as long as its index is."""
        folder = published.layout
        try:
            index = (folder / "index.json").stat()
        except OSError:
            return UnchangingLayout(folder)  # whoever reads it says what is missing
        version = folder, index.st_ino, index.st_mtime_ns
        # Other threads send other releases meanwhile: what is returned is what was asked for.
        last = self._last_layout
        if last is None or last[0] != version:
            last = self._last_layout = version, UnchangingLayout(folder)
        return last[1]

    def _store(self, repository: Repository, doing: Doing) -> RegistryStore:
        line: Callable[[str], None] = doing.line
        return RegistryStore(
            repository, site=self._site, plain_http=self._spec.plain_http, cancel=doing.cancel,
            uploads=self._uploads, line=line,
        )  # fmt: skip


def _content(report: CopyReport) -> tuple[Change, ...]:
    return tuple(_change(piece) for piece in report.pieces)


def _change(piece: Piece) -> Change:
    there = piece.state == "there"
    return Change.model_validate(
        {
            "action": "same" if there else "add",
            "kind": _KINDS.get(piece.kind, piece.kind),
            "name": piece.digest,
            "bytes": piece.size if piece.state == "sent" else 0,
        }
    )


def _points_to(store: RegistryStore, tag: str) -> str | None:
    found = store.manifest(tag)
    return found.descriptor.digest if found else None


def _was_withdrawn(store: RegistryStore, digest: str, reason: str) -> RelforgeError:
    return RelforgeError(
        "this image was withdrawn",
        code=ExitCode.PUBLISH,
        where=f"{store.name}@{digest}",
        why=f"the statement attached to it says: {reason}",
        hint="release another image; or, if that was a mistake, delete the statement "
        f"(oras discover {store.name}@{digest})",
    )


def _other_image(store: RegistryStore, tag: str, found: str | None, digest: str) -> RelforgeError:
    return RelforgeError(
        f"tag {tag} is another image's",
        code=ExitCode.PUBLISH,
        where=f"{store.name}:{tag}",
        why=f"it points to {found or 'nothing'}, this release is {digest}; the tags of a release "
        "never move",
        hint="find out who put it there; withdraw that release, or publish to another repository",
    )
