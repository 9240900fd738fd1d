"""From the result of attesting to what is attached to the published image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from relforge.attesting.manifests import (
    attestations_attachment,
    file_attachment,
    signature_attachment,
)
from relforge.engine.attached import Attachment
from relforge.engine.layout import ImageFacts
from relforge.evidence import dsse
from relforge.oci.store import Descriptor
from relforge.stage import StageResult

if TYPE_CHECKING:
    from relforge.stages.attest import AttestResult


def image_of(facts: ImageFacts) -> Descriptor:
    """What attachments have as subject."""
    return Descriptor(media_type=facts.media_type, digest=facts.digest, size=facts.manifest_bytes)


def attachments_of(
    image: Descriptor, attested: AttestResult | None, sbom: StageResult | None
) -> Iterator[Attachment]:
    """Signature, attestations and bills of materials; what is unsigned is not attached.

    An envelope without signature would only say to a verifier that something is wrong.
    """
    from relforge.stages.attest import SBOM_FILES, sboms

    if attested is not None and (signature := attested.image_signature) is not None:
        payload, signed = (output.path.read_bytes() for output in signature)
        yield signature_attachment(image, payload, signed.decode())
        envelopes = [output.path.read_bytes() for output in attested.envelopes]
        yield attestations_attachment(image, [dsse.parse(data) for data in envelopes])
    for kind, file in sboms(sbom).items():
        yield file_attachment(image, kind, SBOM_FILES[kind], file.read_bytes())
