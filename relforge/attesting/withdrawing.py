"""The statement that a release was taken back: what `relforge verify` fails on, with the reason."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

from relforge.attesting.attachments import WITHDRAWN
from relforge.attesting.manifests import artifact, envelope_layer
from relforge.attesting.predicates import WITHDRAWAL
from relforge.attesting.reading import read_attachments
from relforge.attesting.signing import SigningKey, unsigned
from relforge.attesting.statements import Statement
from relforge.engine.attached import Attachment
from relforge.oci.store import Descriptor, ImageStore, file_opener


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


def withdrawn(store: ImageStore, digest: str) -> str | None:
    """The reason of a withdrawal that is attached to a digest, whoever attached it; else None.

    Raises RelforgeError (PUBLISH) when the place refuses.
    """
    for one in read_attachments(store, digest).of_type(WITHDRAWAL):
        try:
            return str(Statement.parse(one.envelope.payload).predicate.get("reason") or "no reason")
        except ValueError:
            continue
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
