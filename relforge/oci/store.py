"""What every place that holds images can do, and the words of the OCI specifications for it.

Sources: OCI image specification 1.1 (descriptor, manifest, index, image-layout) and distribution
specification 1.1 (pull, push, content discovery, referrers tag schema).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from relforge.frozen import Frozen, canonical_json, sha256_hex

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"

Sent = Literal["there", "mounted", "sent"]


class Descriptor(Frozen):
    """A piece of content by its digest (``sha256:<hex>``). ``size`` is in bytes."""

    media_type: str
    digest: str
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = {}
    platform: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, media_type: str, data: bytes, **more: Any) -> Descriptor:
        """That of ``data``."""
        return cls(
            media_type=media_type, digest=f"sha256:{sha256_hex(data)}", size=len(data), **more
        )

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Descriptor:
        """From its JSON; unknown fields are left out. Raises KeyError, ValidationError."""
        return cls(
            media_type=value["mediaType"],
            digest=value["digest"],
            size=value["size"],
            artifact_type=value.get("artifactType"),
            annotations=value.get("annotations") or {},
            platform=value.get("platform"),
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest or an index."""
        found: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform:
            found["platform"] = dict(self.platform)
        return found

    @property
    def plain(self) -> Descriptor:
        """Media type, digest and size alone: what a ``subject`` is."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)


class Manifest(Frozen):
    """A manifest or an index with its very bytes, which its digest is of."""

    descriptor: Descriptor
    data: bytes

    @property
    def value(self) -> dict[str, Any]:
        """The parsed JSON."""
        found = json.loads(self.data)
        if not isinstance(found, dict):
            raise ValueError("a manifest is a JSON object")
        return found

    @property
    def is_index(self) -> bool:
        return self.descriptor.media_type in INDEXES

    @property
    def manifests(self) -> tuple[Descriptor, ...]:
        """Of an index: what it lists."""
        return tuple(Descriptor.read(entry) for entry in self.value.get("manifests") or ())

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Of a manifest: config and layers, each digest once, in this order."""
        if self.is_index:
            return ()
        value = self.value
        listed = [Descriptor.read(value["config"]), *map(Descriptor.read, value["layers"])]
        return tuple({one.digest: one for one in listed}.values())

    @property
    def subject(self) -> Descriptor | None:
        """What this is attached to."""
        found = self.value.get("subject")
        return Descriptor.read(found) if found else None

    @classmethod
    def make(cls, media_type: str, value: Mapping[str, Any]) -> Manifest:
        """From a JSON object, written canonically."""
        data = canonical_json(value)
        descriptor = Descriptor.of(
            media_type,
            data,
            artifact_type=value.get("artifactType"),
            annotations=value.get("annotations") or {},
        )
        return cls(descriptor=descriptor, data=data)


class ImageStore(Protocol):
    """One repository of a registry, one OCI layout folder, one tar.

    Every method raises RelforgeError (PUBLISH) with cause and remedy when the place refuses, and
    nothing that was read is handed out before its digest was checked.
    """

    @property
    def name(self) -> str:
        """For messages: ``HOST/NAME`` or a path."""

    def manifest(self, reference: str) -> Manifest | None:
        """By tag or digest; None when there is none. The digest of its bytes is checked."""

    def has_blob(self, digest: str) -> bool:
        """Whether the content is there, whole."""

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        """Its bytes; reading past the end checks size and digest."""

    def put_blob(
        self,
        descriptor: Descriptor,
        open_: Callable[[], IO[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Sent:
        """Sends content that is not there. ``open_`` may be called again after an interruption.
        ``mount_from`` is the name of another repository of the same registry that has it."""

    def put_manifest(self, manifest: Manifest, *, tag: str | None = None) -> None:
        """Writes a manifest whose content is there already; under ``tag``, too."""

    def tags(self) -> tuple[str, ...]:
        """All tags, sorted."""

    def delete_tag(self, tag: str) -> None:
        """Removes the tag; what it pointed to may stay or go. No error when it is not there."""

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """What is attached to a digest: from the referrers API where there is one, else from the
        tag ``sha256-<hex>``."""

    def attach(self, *manifests: Manifest) -> None:
        """Writes manifests with a ``subject``, and lists them where ``referrers`` looks. One whose
        descriptor has the annotation ``attachments.TAG`` also gets that tag."""

    def commit(self) -> None:
        """Writes what a store gathers first (a tar does). Nothing is changed when all was there."""


def referrers_tag(digest: str) -> str:
    """The tag under which a registry without referrers API lists what is attached to a digest."""
    return digest.replace(":", "-")


def file_opener(path: Path) -> Callable[[], IO[bytes]]:
    """For ``put_blob``: opens a file."""
    return lambda: path.open("rb")
