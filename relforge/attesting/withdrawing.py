"""The statement that a release was taken back: what `relforge verify` fails on, with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from relforge.attesting.attachments import (
    COSIGN_SIGNATURE,
    CYCLONEDX,
    RELEASE,
    SPDX,
    WITHDRAWN,
)
from relforge.attesting.manifests import DSSE, PREDICATE_TYPE, artifact, envelope_layer
from relforge.attesting.predicates import WITHDRAWAL
from relforge.attesting.reading import LARGEST_BYTES, read_file
from relforge.attesting.signing import SigningKey, unsigned
from relforge.attesting.statements import Statement
from relforge.attesting.trusting import release_signers
from relforge.attesting.verifying import verify_envelope
from relforge.engine.attached import Attachment
from relforge.errors import RelforgeError
from relforge.evidence.dsse import Envelope, TrustedSigner, UnknownSigner, parse
from relforge.manifest.site import Site
from relforge.oci.store import Descriptor, ImageStore, file_opener

_OTHERS = (SPDX, CYCLONEDX, RELEASE, COSIGN_SIGNATURE)
"""Artifact types of manifests that hold no statement."""


def withdrawal(
    image: Descriptor, *, release: str, reason: str, created: str, key: SigningKey | None
) -> Attachment:
    """A manifest to attach to the image. ``created`` is RFC 3339 in UTC; without a key nobody
    vouches for the statement."""
    statement = Statement(
        name=release,
        digest=image.digest,
        predicate_type=WITHDRAWAL,
        predicate={"release": release, "reason": reason, "created": created},
    )
    envelope = key.sign_statement(statement) if key is not None else unsigned(statement)
    return artifact(WITHDRAWN, image, [envelope_layer(envelope)])


def withdrawn(
    store: ImageStore,
    digest: str,
    site: Site,
    *,
    line: Callable[[str], None] = lambda _line: None,
) -> str | None:
    """The reason of a withdrawal of a digest that counts for this site; else None.

    Those signed with the site's own or a trusted key count, and unsigned ones where the site signs
    nothing itself. A site that knows no key cannot tell its makers from strangers: all count, as
    for ``relforge verify``. Each other one is a warning for ``line``. Raises RelforgeError
    (PUBLISH) when the place refuses, LockedKey.
    """
    trusted: tuple[TrustedSigner, ...] | None = None
    for envelope in _statements(store, digest):
        try:
            statement = Statement.parse(envelope.payload)
        except ValueError:
            continue
        if statement.digest != digest or statement.predicate_type != WITHDRAWAL:
            continue
        reason = str(statement.predicate.get("reason") or "no reason")
        trusted = release_signers(site) if trusted is None else trusted
        why = _does_not_count(envelope, digest, trusted, signs=site.publish.signing is not None)
        if why is None:
            return reason
        line(
            f"warning: {store.name}@{digest}: a statement says that the image was withdrawn "
            f"({reason}); it does not count: {why}"
        )
    return None


def _statements(store: ImageStore, digest: str) -> Iterator[Envelope]:
    """Envelopes that may say so; what is known to be something else is not read."""
    seen: set[str] = set()
    for one in store.referrers(digest):
        if one.artifact_type in _OTHERS or (manifest := store.manifest(one.digest)) is None:
            continue
        for layer in map(Descriptor.read, manifest.value.get("layers") or ()):
            said = layer.annotations.get(PREDICATE_TYPE, WITHDRAWAL)
            if layer.media_type != DSSE or said != WITHDRAWAL or layer.digest in seen:
                continue
            if layer.size > LARGEST_BYTES:
                continue  # nor does relforge verify read it
            seen.add(layer.digest)
            data = read_file(store, layer)
            try:
                yield parse(data, where=f"{store.name}@{layer.digest}")
            except RelforgeError:
                continue  # no envelope at all


def _does_not_count(
    envelope: Envelope, digest: str, trusted: tuple[TrustedSigner, ...], *, signs: bool
) -> str | None:
    """Why; None where it counts."""
    if not envelope.signatures and not signs:
        return None
    if not trusted and not signs:
        return None
    try:
        verify_envelope(envelope, digest, trusted)
    except UnknownSigner:
        return "no key of this site signed it" if envelope.signatures else "nobody signed it"
    except RelforgeError as error:
        return error.what
    return None


def attach(store: ImageStore, attachment: Attachment) -> int:
    """Sends it; returns the bytes of its content. Raises RelforgeError (PUBLISH)."""
    sent = 0
    for blob in attachment.manifest.blobs:
        data = attachment.blobs[blob.digest]
        opener = file_opener(data) if isinstance(data, Path) else partial(io.BytesIO, data)
        if store.put_blob(blob, opener) == "sent":
            sent += blob.size
    store.attach(attachment.manifest)
    return sent + attachment.manifest.descriptor.size
