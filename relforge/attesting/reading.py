"""What is attached to an image, read from a registry, a layout or a tar; nothing is trusted yet."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field

from relforge.attesting.attachments import (
    COSIGN_ATTESTATIONS,
    COSIGN_SIGNATURE,
    CYCLONEDX,
    RELEASE,
    SPDX,
    attestations_tag,
    signature_tag,
)
from relforge.attesting.manifests import CREATED, DSSE, TITLE
from relforge.attesting.simple import MEDIA_TYPE as SIMPLE_SIGNING
from relforge.attesting.simple import SIGNATURE_ANNOTATION
from relforge.attesting.statements import predicate_type
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from relforge.oci.store import Descriptor, ImageStore, Manifest

LARGEST_BYTES = 128 << 20
"""Of one envelope or file that is read whole; cosign has the same limit."""


@dataclass(frozen=True)
class ImageSignature:
    """cosign's signature of an image: the signed text and the bare signature."""

    payload: bytes
    signature: bytes
    manifest: str
    """Digest of the manifest that it was found in."""


@dataclass(frozen=True)
class AttachedEnvelope:
    """One DSSE envelope, and what its payload calls itself."""

    envelope: dsse.Envelope
    predicate_type: str | None
    manifest: str


@dataclass(frozen=True)
class ReleaseFiles:
    """A release artifact: record, cards and evidence by their paths in the release's folder."""

    manifest: Descriptor
    files: dict[str, Descriptor]


@dataclass(frozen=True)
class Attached:
    """What lies beside an image. Everything is as it was found: signatures are not checked."""

    image_digest: str
    envelopes: tuple[AttachedEnvelope, ...] = ()
    signatures: tuple[ImageSignature, ...] = ()
    sboms: dict[str, Descriptor] = field(default_factory=dict)
    """The file's own descriptor, by ``attachments.SPDX`` and ``attachments.CYCLONEDX``."""
    releases: tuple[ReleaseFiles, ...] = ()
    """The newest first; a registry keeps older ones of the same image."""
    others: tuple[Descriptor, ...] = ()
    """Manifests that relforge does not know, such as scanners of a registry attach."""
    unreadable: tuple[str, ...] = ()
    """What could not be read, and why: one sentence each."""

    def of_type(self, kind: str) -> tuple[AttachedEnvelope, ...]:
        """The envelopes of a predicate type; a registry keeps older ones of the same image."""
        return tuple(one for one in self.envelopes if one.predicate_type == kind)


def read_attachments(store: ImageStore, image_digest: str) -> Attached:
    """Reads manifests, envelopes and signatures; of other files only the descriptors.

    Looks where ``referrers`` looks, and at cosign's tags: a copy made by other tools may have one
    without the other. Raises RelforgeError (PUBLISH) when the place refuses.
    """
    manifests, unreadable = _manifests(store, image_digest)
    envelopes: list[AttachedEnvelope] = []
    signatures: list[ImageSignature] = []
    sboms: dict[str, Descriptor] = {}
    releases: list[ReleaseFiles] = []
    others: list[Descriptor] = []
    seen: set[str] = set()
    for kind, manifest in manifests:
        digest = manifest.descriptor.digest
        layers = tuple(_layers(manifest))
        if any(layer.media_type in (DSSE, SIMPLE_SIGNING) for layer in layers):
            for layer in layers:
                # After a new statement a registry keeps the older manifest, with the same layers.
                if layer.digest in seen:
                    continue
                seen.add(layer.digest)
                found = _signed(store, layer, digest)
                if isinstance(found, AttachedEnvelope):
                    envelopes.append(found)
                elif isinstance(found, ImageSignature):
                    signatures.append(found)
                elif found is not None:
                    unreadable.append(found)
        elif kind in (SPDX, CYCLONEDX) and layers:
            sboms.setdefault(kind, layers[0])
        elif kind == RELEASE:
            named = {layer.annotations.get(TITLE, ""): layer for layer in layers}
            releases.append(ReleaseFiles(manifest.descriptor, named))
        else:
            others.append(manifest.descriptor)
    releases.sort(key=lambda one: one.manifest.annotations.get(CREATED, ""), reverse=True)
    return Attached(
        image_digest=image_digest,
        envelopes=tuple(envelopes),
        signatures=tuple(signatures),
        sboms=sboms,
        releases=tuple(releases),
        others=tuple(others),
        unreadable=tuple(unreadable),
    )


def read_file(store: ImageStore, descriptor: Descriptor) -> bytes:
    """An attached file, whole, its digest checked. Raises RelforgeError (PUBLISH)."""
    if descriptor.size > LARGEST_BYTES:
        raise RelforgeError(
            "an attached file is too large to be read",
            code=ExitCode.PUBLISH,
            where=f"{store.name}@{descriptor.digest}",
            why=f"{descriptor.size} bytes, the limit is {LARGEST_BYTES}",
            hint="get it with `oras blob fetch`",
        )
    with store.open_blob(descriptor) as stream:
        data = stream.read()
        # The check of size and digest happens when reading meets the end.
        stream.read(1)
    return data


def _manifests(store: ImageStore, digest: str) -> tuple[list[tuple[str, Manifest]], list[str]]:
    """Artifact type and manifest of everything attached, each once."""
    found: dict[str, tuple[str, Manifest]] = {}
    lost: list[str] = []
    for listed in store.referrers(digest):
        manifest = store.manifest(listed.digest)
        if manifest is None:
            lost.append(f"{listed.digest} is listed and is not there")
            continue
        kind = str(manifest.value.get("artifactType") or listed.artifact_type or "")
        found[listed.digest] = (kind, manifest)
    for tag, kind in (
        (signature_tag(digest), COSIGN_SIGNATURE),
        (attestations_tag(digest), COSIGN_ATTESTATIONS),
    ):
        manifest = store.manifest(tag)
        if manifest is not None:
            found.setdefault(manifest.descriptor.digest, (kind, manifest))
    return list(found.values()), lost


def _layers(manifest: Manifest) -> Iterator[Descriptor]:
    yield from map(Descriptor.read, manifest.value.get("layers") or ())


def _signed(
    store: ImageStore, layer: Descriptor, manifest: str
) -> AttachedEnvelope | ImageSignature | str | None:
    if layer.media_type not in (DSSE, SIMPLE_SIGNING):
        return None
    try:
        data = read_file(store, layer)
        if layer.media_type == DSSE:
            envelope = dsse.parse(data, where=f"{store.name}@{layer.digest}")
            return AttachedEnvelope(envelope, predicate_type(envelope.payload), manifest)
        text = layer.annotations.get(SIGNATURE_ANNOTATION, "")
        return ImageSignature(data, base64.b64decode(text, validate=True), manifest)
    except RelforgeError as error:
        return f"{layer.digest}: " + ": ".join(part for part in (error.what, error.why) if part)
    except (binascii.Error, ValueError) as error:
        return f"{layer.digest}: {error}"
