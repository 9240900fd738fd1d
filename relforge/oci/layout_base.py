"""What an OCI layout in a folder and one in a tar have in common: an index, and blobs by digest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import IO

from relforge.attesting.attachments import ATTACHMENTS, TAG
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.fallback import entries_of, index_of, merged
from relforge.oci.layout_format import Entry, is_attachments, names_of, tag_of
from relforge.oci.reference import DIGEST
from relforge.oci.refusals import altered
from relforge.oci.store import (
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    Sent,
    referrers_tag,
)

_MOST_MANIFEST_BYTES = 8 << 20


class LayoutBase(ABC):
    """The methods of ImageStore over an index and blobs, which subclasses read and write."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def has_blob(self, digest: str) -> bool: ...

    @abstractmethod
    def open_blob(self, descriptor: Descriptor) -> IO[bytes]: ...

    @abstractmethod
    def put_blob(
        self,
        descriptor: Descriptor,
        open_: Callable[[], IO[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Sent: ...

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def _size_of(self, digest: str) -> int | None:
        """In bytes; None when it is not there."""

    @abstractmethod
    def _entries(self) -> list[Entry]:
        """Of the index; none where there is no layout yet."""

    @abstractmethod
    def _set_entries(self, entries: Sequence[Entry], *, stale: Sequence[str] = ()) -> None:
        """Writes the index; the blobs ``stale`` are no longer needed after that."""

    @abstractmethod
    def _put_data(self, manifest: Manifest) -> None: ...

    @abstractmethod
    def _changing(self) -> AbstractContextManager[None]:
        """Held from reading the index to writing it."""

    def manifest(self, reference: str) -> Manifest | None:
        if DIGEST.fullmatch(reference):
            known = next((e for e in self._entries() if e["digest"] == reference), None)
            return self._read(reference, known["mediaType"] if known else None)
        for entry in self._entries():
            if tag_of(entry) == reference:
                found = self._read(entry["digest"], entry["mediaType"])
                if found is None:
                    raise altered(self.name, f"{entry['digest']}, tag {reference}, is missing")
                return found
        tagged = next((e for e in self._attached() if e.annotations.get(TAG) == reference), None)
        return self._read(tagged.digest, tagged.media_type) if tagged else None

    def roots(self) -> tuple[tuple[str | None, Descriptor], ...]:
        """The images of the index with their tags; neither what is attached to one."""
        found = []
        for entry in self._entries():
            if is_attachments(entry) or entry["mediaType"] not in (*INDEXES, *MANIFESTS):
                continue
            if (tag_of(entry) or "").startswith("sha256-"):
                continue
            manifest = self._read(entry["digest"], entry["mediaType"])
            if manifest is None or manifest.subject is None:
                found.append((tag_of(entry), Descriptor.read(entry)))
        return tuple(found)

    def full_name(self, digest: str) -> str | None:
        """The name with tag that the index has for an image, as Docker shows it."""
        from relforge.oci.layout_format import full_name

        names = (full_name(entry) for entry in self._entries() if entry["digest"] == digest)
        return next((name for name in names if name), None)

    def put_manifest(self, manifest: Manifest, *, tag: str | None = None) -> None:
        """``tag`` may be a full name with tag, which Docker then shows. Without one the manifest is
        listed without a name, until an index that lists it is written, or it is attached."""
        for one in manifest.blobs if not manifest.is_index else manifest.manifests:
            if self._size_of(one.digest) is None and not _elsewhere(one):
                raise altered(self.name, f"{one.digest} is not there, and a manifest needs it")
        self._put_data(manifest)
        with self._changing():
            before = self._entries()
            entry = manifest.descriptor.plain.to_json()
            if platform := _platform(before, entry["digest"]):
                entry["platform"] = platform
            if tag is not None:
                entry["annotations"] = names_of(tag)
            inner = {one.digest for one in manifest.manifests} if manifest.is_index else set()
            after = [
                e for e in before
                if not (tag is not None and tag_of(e) == tag_of(entry))
                and not (tag_of(e) is None and e["digest"] in {*inner, entry["digest"]})
            ]  # fmt: skip
            if tag is not None or not any(e["digest"] == entry["digest"] for e in after):
                after.append(entry)
            self._set_entries(after)

    def tags(self) -> tuple[str, ...]:
        own = {tag for entry in self._entries() if (tag := tag_of(entry))}
        attached = {tag for one in self._attached() if (tag := one.annotations.get(TAG))}
        return tuple(sorted(own | attached))

    def delete_tag(self, tag: str) -> None:
        with self._changing():
            before = self._entries()
            after = [entry for entry in before if tag_of(entry) != tag]
            if len(after) != len(before):
                self._set_entries(after)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        found: dict[str, Descriptor] = {}
        listed = [*self._attached(), *(Descriptor.read(e) for e in self._foreign())]
        if (fallback := self.manifest(referrers_tag(digest))) is not None:
            listed += entries_of(fallback)
        for one in listed:
            if one.digest in found:
                continue
            manifest = self._read(one.digest, one.media_type)
            subject = manifest.subject if manifest is not None else None
            by_tag = (one.annotations.get(TAG) or "").startswith(f"{referrers_tag(digest)}.")
            if subject.digest == digest if subject is not None else by_tag:
                found[one.digest] = _described(one, manifest)
        return tuple(found.values())

    def attach(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            self._put_data(manifest)
        with self._changing():
            entries = self._entries()
            fresh = [manifest.descriptor for manifest in manifests]
            tags = {tag for one in fresh if (tag := one.annotations.get(TAG))}
            digests = {one.digest for one in fresh}
            # A tag has one owner: a newer list of signatures takes it from the older.
            kept = [
                one for one in self._attached()
                if one.annotations.get(TAG) not in tags or one.digest in digests
            ]  # fmt: skip
            whole, _ = merged([one for one in kept if one.digest not in digests], fresh)
            index = index_of(whole, artifact_type=ATTACHMENTS)
            self._put_data(index)
            entry = {**index.descriptor.plain.to_json(), "artifactType": ATTACHMENTS}
            stale = [e["digest"] for e in entries if is_attachments(e)]
            after = [
                e for e in entries
                if not is_attachments(e) and not (tag_of(e) is None and e["digest"] in digests)
            ]  # fmt: skip
            self._set_entries(
                [*after, entry], stale=[one for one in stale if one != entry["digest"]]
            )

    def _attached(self) -> tuple[Descriptor, ...]:
        found: list[Descriptor] = []
        for entry in self._entries():
            if is_attachments(entry):
                index = self._read(entry["digest"], OCI_INDEX)
                if index is None:
                    raise altered(self.name, f"{entry['digest']}, its attachments, are missing")
                found += index.manifests
        return tuple(found)

    def _foreign(self) -> list[Entry]:
        """Entries of the index itself that may be attached to another: so do other programs."""
        return [e for e in self._entries() if not is_attachments(e) and not tag_of(e)]

    def _read(self, digest: str, media_type: str | None) -> Manifest | None:
        """None when it is not there, or is no manifest."""
        size = self._size_of(digest)
        if size is None or size > _MOST_MANIFEST_BYTES:
            return None
        anonymous = Descriptor(media_type=media_type or "", digest=digest, size=size)
        with self.open_blob(anonymous) as reader:
            data = reader.read(size) + reader.read(1)
        try:
            value = Manifest(descriptor=anonymous, data=data).value
        except ValueError:
            return None
        kind = value.get("mediaType") or media_type
        if kind is None and "layers" in value:
            kind = OCI_MANIFEST
        if kind is None and "manifests" in value:
            kind = OCI_INDEX
        if kind not in (*MANIFESTS, *INDEXES):
            return None
        return Manifest(
            descriptor=Descriptor.of(
                kind,
                data,
                artifact_type=value.get("artifactType"),
                annotations=value.get("annotations") or {},
            ),
            data=data,
        )

    def _damaged(self, why: str) -> RelforgeError:
        return RelforgeError(
            "this is no whole OCI layout",
            code=ExitCode.PUBLISH,
            where=self.name,
            why=why,
            hint="name a folder with oci-layout and index.json, or a tar of one; copy it again "
            "where it is damaged",
        )


def _described(one: Descriptor, manifest: Manifest | None) -> Descriptor:
    """With the artifact type, which entries of other programs do not always have."""
    if one.artifact_type is not None or manifest is None:
        return one
    kind = manifest.descriptor.artifact_type or (manifest.value.get("config") or {}).get(
        "mediaType"
    )
    return one.model_copy(update={"artifact_type": kind})


def _platform(entries: Sequence[Entry], digest: str) -> dict[str, object] | None:
    return next(
        (e["platform"] for e in entries if e["digest"] == digest and e.get("platform")), None
    )


def _elsewhere(one: Descriptor) -> bool:
    """Layers that registries do not hand on, by their media type."""
    return "foreign" in one.media_type or "nondistributable" in one.media_type
