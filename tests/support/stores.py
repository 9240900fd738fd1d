"""A place for images in memory, as strict as a registry: content comes before its manifest."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

from relforge.engine.attached import Attachment
from relforge.oci.store import Descriptor, Manifest, Sent


class MemoryStore:
    """An ``ImageStore`` that can also be filled by hand."""

    name = "memory"

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, Manifest] = {}
        self.tagged: dict[str, str] = {}
        self.listed: dict[str, list[Descriptor]] = {}

    def manifest(self, reference: str) -> Manifest | None:
        return self.manifests.get(self.tagged.get(reference, reference))

    def has_blob(self, digest: str) -> bool:
        return digest in self.blobs

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        return io.BytesIO(self.blobs[descriptor.digest])

    def put_blob(
        self,
        descriptor: Descriptor,
        open_: Callable[[], IO[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Sent:
        with open_() as stream:
            data = stream.read()
        assert Descriptor.of("", data).digest == descriptor.digest, mount_from
        self.blobs[descriptor.digest] = data
        return "sent"

    def put_manifest(self, manifest: Manifest, *, tag: str | None = None) -> None:
        assert all(blob.digest in self.blobs for blob in manifest.blobs)
        self.manifests[manifest.descriptor.digest] = manifest
        if tag:
            self.tagged[tag] = manifest.descriptor.digest

    def tags(self) -> tuple[str, ...]:
        return tuple(sorted(self.tagged))

    def delete_tag(self, tag: str) -> None:
        self.tagged.pop(tag, None)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        return tuple(self.listed.get(digest, ()))

    def attach(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            self.put_manifest(manifest)
            subject = manifest.subject
            assert subject is not None
            self.listed.setdefault(subject.digest, []).append(manifest.descriptor)

    def take(self, attachment: Attachment) -> None:
        """Attaches it, with its blobs and its tag."""
        for digest, content in attachment.blobs.items():
            self.blobs[digest] = content if isinstance(content, bytes) else content.read_bytes()
        self.attach(attachment.manifest)
        if attachment.tag:
            self.tagged[attachment.tag] = attachment.manifest.descriptor.digest

    def commit(self) -> None:
        """Everything lasts as long as the object."""
