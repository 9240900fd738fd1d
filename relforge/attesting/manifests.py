"""The manifests that are attached to an image, in the form that cosign and oras read.

Formats: OCI image specification 1.1, manifest with ``artifactType`` and ``subject``;
sigstore/cosign, specs/SIGNATURE_SPEC.md and ATTESTATION_SPEC.md: one layer for each signature or
DSSE envelope, with the annotations below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from relforge.attesting.attachments import (
    COSIGN_ATTESTATIONS,
    COSIGN_SIGNATURE,
    RELEASE,
    attestations_tag,
    signature_tag,
)
from relforge.attesting.simple import MEDIA_TYPE as SIMPLE_SIGNING
from relforge.attesting.simple import SIGNATURE_ANNOTATION
from relforge.engine.attached import Attachment
from relforge.evidence.dsse import Envelope
from relforge.files import sha256_file
from relforge.oci.store import EMPTY_CONFIG, OCI_MANIFEST, Descriptor, Manifest

DSSE = "application/vnd.dsse.envelope.v1+json"
PREDICATE_TYPE = "predicateType"
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"


def signature_attachment(image: Descriptor, payload: bytes, signature: str) -> Attachment:
    """cosign's signature of an image. ``payload`` is a ``SimpleSigning`` text, ``signature`` that
    of it in base64."""
    annotations = {SIGNATURE_ANNOTATION: signature}
    layer = Descriptor.of(SIMPLE_SIGNING, payload, annotations=annotations)
    return artifact(COSIGN_SIGNATURE, image, [(layer, payload)], tag=signature_tag(image.digest))


def attestations_attachment(image: Descriptor, envelopes: Sequence[Envelope]) -> Attachment:
    """All envelopes in one manifest, as cosign looks for them. Raises ValueError for a payload
    that is no in-toto statement."""
    return envelopes_attachment(image, [envelope_layer(envelope) for envelope in envelopes])


def envelope_layer(envelope: Envelope) -> tuple[Descriptor, bytes]:
    """One layer of such a manifest."""
    data = envelope.to_json()
    annotations = {
        # The signature is inside; cosign wants the annotation to be there, empty.
        SIGNATURE_ANNOTATION: "",
        PREDICATE_TYPE: str(json.loads(envelope.payload)["predicateType"]),
    }
    return Descriptor.of(DSSE, data, annotations=annotations), data


def envelopes_attachment(
    image: Descriptor, layers: Sequence[tuple[Descriptor, bytes | Path]]
) -> Attachment:
    """The manifest of layers that ``envelope_layer`` made."""
    return artifact(COSIGN_ATTESTATIONS, image, layers, tag=attestations_tag(image.digest))


def file_attachment(image: Descriptor, artifact_type: str, name: str, data: bytes) -> Attachment:
    """One file, such as a bill of materials."""
    layer = Descriptor.of(artifact_type, data, annotations={TITLE: name})
    return artifact(artifact_type, image, [(layer, data)])


def release_attachment(
    image: Descriptor, files: Mapping[str, bytes | Path], annotations: Mapping[str, str]
) -> Attachment:
    """Record, cards and evidence, each by its path in the release's folder. Raises OSError."""
    layers = [(_described(name, content), content) for name, content in sorted(files.items())]
    return artifact(RELEASE, image, layers, annotations=annotations)


def _described(name: str, content: bytes | Path) -> Descriptor:
    kind = _media_type(name)
    if isinstance(content, bytes):
        return Descriptor.of(kind, content, annotations={TITLE: name})
    return Descriptor(
        media_type=kind,
        digest=f"sha256:{sha256_file(content)}",
        size=content.stat().st_size,
        annotations={TITLE: name},
    )


def artifact(
    artifact_type: str,
    image: Descriptor,
    layers: Sequence[tuple[Descriptor, bytes | Path]],
    *,
    tag: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Attachment:
    """Any manifest with the image as ``subject``; each layer with its content, or its file."""
    config = Descriptor.of(EMPTY_CONFIG, b"{}")
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config.to_json(),
        "layers": [descriptor.to_json() for descriptor, _ in layers],
        "subject": image.plain.to_json(),
    }
    if annotations:
        value["annotations"] = dict(annotations)
    blobs: dict[str, bytes | Path] = {config.digest: b"{}"}
    blobs |= {layer.digest: content for layer, content in layers}
    return Attachment(Manifest.make(OCI_MANIFEST, value), blobs, tag)


_MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
}


def _media_type(name: str) -> str:
    end = name[name.rfind(".") :] if "." in name else ""
    return _MEDIA_TYPES.get(end, "text/plain")
