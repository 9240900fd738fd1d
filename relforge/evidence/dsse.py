"""Signed envelopes: DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md).

Signatures are ECDSA over P-256 with SHA-256 (DER, as cosign and in-toto write them) or Ed25519. A
key id is the SHA-256 of the public key's SubjectPublicKeyInfo in DER, as 64 hexadecimal digits.

Parsing is stricter than the specification asks: no unknown fields, no repeated fields, standard
base64 in its one canonical spelling. What relforge signs it also reads back byte for byte, so
leniency would only hide alterations.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import canonical_json

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope; ``keyid`` is a hint and decides nothing by itself."""

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload, what kind of thing it is, and its signatures (none: an unsigned envelope)."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def to_json(self) -> bytes:
        """The envelope as canonical JSON; ``parse`` reads it back."""
        return canonical_json(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()}
                    for s in self.signatures
                ],
            }
        )


@dataclass(frozen=True)
class TrustedSigner:
    """A public key whose signature is accepted, and the name people know it by."""

    name: str
    public_key: PublicKey

    @cached_property
    def keyid(self) -> str:
        return key_id(self.public_key)


@dataclass(frozen=True)
class Verified:
    """A payload together with the trusted signer who vouches for it."""

    payload: bytes
    signer: TrustedSigner


class UnknownSigner(RelforgeError):
    """No trusted key made any of the signatures. ``keyids`` are those that the envelope names."""

    def __init__(self, keyids: tuple[str, ...], where: str | None) -> None:
        super().__init__(
            "nobody that is trusted here signed this" if keyids else "this is not signed",
            code=ExitCode.SOURCE,
            where=where,
            why=f"signed by key id {', '.join(keyids)}" if keyids else "it carries no signature",
        )
        self.keyids = keyids

    def __reduce__(self) -> tuple[object, ...]:
        return UnknownSigner, (self.keyids, self.where)


def key_id(key: PublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo in DER, 64 hexadecimal digits."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are really signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, private_key: PrivateKey) -> Envelope:
    """Signs a payload. Raises RelforgeError (SOURCE) for an elliptic curve other than P-256."""
    signature = sign_bytes(pae(payload_type, payload), private_key)
    keyid = key_id(private_key.public_key())
    return Envelope(payload_type, payload, (Signature(keyid, signature),))


def sign_bytes(data: bytes, private_key: PrivateKey) -> bytes:
    """A bare signature. Raises RelforgeError (SOURCE) for an elliptic curve other than P-256."""
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(data)
    _only_p256(private_key.curve)
    return private_key.sign(data, ec.ECDSA(hashes.SHA256()))


def verify(
    envelope: Envelope,
    trusted: Sequence[TrustedSigner],
    *,
    payload_type: str,
    where: str | None = None,
) -> Verified:
    """The payload and who signed it.

    Raises UnknownSigner when no signature names a trusted key, and RelforgeError (SOURCE) when one
    names a trusted key but does not match: then the content or the signature was altered.
    """
    if envelope.payload_type != payload_type:
        raise _bad(f"it holds {envelope.payload_type!r} where {payload_type!r} is expected", where)
    by_id = {signer.keyid: signer for signer in trusted}
    signed = pae(envelope.payload_type, envelope.payload)
    found: TrustedSigner | None = None
    for signature in envelope.signatures:
        signer = by_id.get(signature.keyid)
        if signer is None:
            continue
        if not matches(signer.public_key, signature.sig, signed):
            raise RelforgeError(
                "the signature does not match: the content was altered after it was signed",
                code=ExitCode.SOURCE,
                where=where,
                why=f"checked with the key of {signer.name} (key id {signer.keyid})",
                hint="get the file again from whoever made it",
            )
        found = found or signer
    if found is None:
        raise UnknownSigner(tuple(s.keyid for s in envelope.signatures), where)
    return Verified(envelope.payload, found)


def parse(data: bytes, *, where: str | None = None) -> Envelope:
    """Reads an envelope. Raises RelforgeError (SOURCE) for anything but the canonical form."""
    try:
        value = json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is not JSON: {error}", where) from error
    fields = _closed(value, {"payload", "payloadType", "signatures"}, where)
    rows = fields["signatures"]
    if not isinstance(rows, list):
        raise _bad("'signatures' is not a list", where)
    signatures = []
    for row in rows:
        one = _closed(row, {"keyid", "sig"}, where)
        signatures.append(Signature(_text(one, "keyid", where), _base64(one, "sig", where)))
    return Envelope(
        _text(fields, "payloadType", where), _base64(fields, "payload", where), tuple(signatures)
    )


def matches(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    """Whether a bare signature of ``signed`` was made with this key."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            _only_p256(key.curve)
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _only_p256(curve: ec.EllipticCurve) -> None:
    if not isinstance(curve, ec.SECP256R1):
        raise RelforgeError(
            f"signatures use the curve P-256 (or Ed25519), not {curve.name}",
            code=ExitCode.SOURCE,
            hint="make a key pair with P-256",
        )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field appears twice")
    return result


def _closed(value: Any, names: set[str], where: str | None) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise _bad(f"its fields are not exactly {', '.join(sorted(names))}", where)
    return value


def _text(fields: dict[str, Any], name: str, where: str | None) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise _bad(f"{name!r} is not a string", where)
    return value


def _base64(fields: dict[str, Any], name: str, where: str | None) -> bytes:
    text = _text(fields, name, where)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(f"{name!r} is not base64", where) from error
    if base64.b64encode(data).decode() != text:
        raise _bad(f"{name!r} is not in canonical base64", where)
    return data


def _bad(why: str, where: str | None) -> RelforgeError:
    return RelforgeError(
        "the signed envelope cannot be read",
        code=ExitCode.SOURCE,
        where=where,
        why=why,
        hint="get the file again from whoever made it",
    )
