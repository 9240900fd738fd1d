"""Checking signatures of an image and of statements about it, with keys that somebody trusts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relforge.attesting.predicates import PAYLOAD_TYPE
from relforge.attesting.reading import ImageSignature
from relforge.attesting.simple import SimpleSigning
from relforge.attesting.statements import Statement
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import Envelope, TrustedSigner, UnknownSigner, matches, pae


class NotSignedByTrusted(RelforgeError):
    """A signature of an image names no key: an altered one looks like one of somebody else."""


@dataclass(frozen=True)
class Said:
    """A statement, and the trusted signer who vouches for it."""

    statement: Statement
    signer: TrustedSigner


def verify_signature(
    signature: ImageSignature, image_digest: str, trusted: Sequence[TrustedSigner]
) -> TrustedSigner:
    """Who signed the image.

    Raises NotSignedByTrusted when no trusted key made the signature, RelforgeError (SOURCE) when
    the signed text is about another digest.
    """
    where = f"signature of {image_digest}"
    signer = next(
        (s for s in trusted if matches(s.public_key, signature.signature, signature.payload)), None
    )
    if signer is None:
        raise NotSignedByTrusted(
            "no trusted key made this signature",
            code=ExitCode.SOURCE,
            where=where,
            why=f"checked with: {', '.join(f'{s.name} ({s.keyid})' for s in trusted) or 'no key'}",
            hint="ask the maker of the release for the public key",
        )
    try:
        signed = SimpleSigning.parse(signature.payload)
    except ValueError as error:
        raise _wrong("what was signed is no image signature", str(error), where) from error
    if signed.digest != image_digest:
        raise _wrong(
            "this is the signature of another image",
            f"it is about {signed.digest}, asked was for {image_digest}",
            where,
        )
    return signer


def verify_envelope(
    envelope: Envelope,
    image_digest: str,
    trusted: Sequence[TrustedSigner],
    *,
    where: str | None = None,
) -> Said:
    """The statement about the image, and who signed it.

    An envelope that names no key (cosign writes none) is checked with every trusted one. Raises
    UnknownSigner, and RelforgeError (SOURCE) when a signature that names a trusted key does not
    match, or when the statement is about another digest or is none.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _wrong(
            "this envelope holds no statement", f"it holds {envelope.payload_type!r}", where
        )
    signer = _signer(envelope, trusted, where)
    try:
        statement = Statement.parse(envelope.payload)
    except ValueError as error:
        raise _wrong("what was signed is no statement", str(error), where) from error
    if statement.digest != image_digest:
        raise _wrong(
            "this statement is about another image",
            f"it is about {statement.digest}, asked was for {image_digest}",
            where,
        )
    return Said(statement, signer)


def _signer(
    envelope: Envelope, trusted: Sequence[TrustedSigner], where: str | None
) -> TrustedSigner:
    signed = pae(envelope.payload_type, envelope.payload)
    for signature in envelope.signatures:
        for signer in trusted:
            if signature.keyid not in ("", signer.keyid):
                continue
            if matches(signer.public_key, signature.sig, signed):
                return signer
            if signature.keyid:
                raise _wrong(
                    "the signature does not match: the statement was altered after it was signed",
                    f"checked with the key of {signer.name} (key id {signer.keyid})",
                    where,
                )
    raise UnknownSigner(tuple(s.keyid for s in envelope.signatures), where)


def _wrong(what: str, why: str, where: str | None) -> RelforgeError:
    return RelforgeError(
        what,
        code=ExitCode.SOURCE,
        where=where,
        why=why,
        hint="get the release again from whoever made it",
    )
