"""Private keys of every form that is in use: PEM, OpenSSH, PGP, PuTTY, age, cosign.

Certificates and public keys are none, and neither is a marker without a key behind it, as programs
that read keys contain. Formats: RFC 7468 (PEM), PROTOCOL.key of OpenSSH, RFC 9580 (PGP), age's
specification (Bech32), cosign's ``ENCRYPTED SIGSTORE PRIVATE KEY``.
"""

from __future__ import annotations

import base64
import binascii
import re

from relforge.scanning.rules import CONTEXT, Rule

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY(?: BLOCK)?-----")
# In source code the lines of a key are parts of a string: quotes, plus signs, `\n` and comments.
_BETWEEN = re.compile(rb"(?:\\r|\\n|\\t|\\\n|[\s\"'+,>#*|]|//)+")
# PEM of RFC 1421 and PGP have headers before the key.
_HEADERS = re.compile(
    rb"(?:(?:\\r|\\n|\s|[\"'+,])*(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): ?"
    rb"[^\\\n]*(?:\\n|\n))*"
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_SHORTEST = 60
"""Base64 characters of the shortest key in use (Ed25519 in PKCS #8: 64)."""
_BECH32 = rb"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7Lqpzry9x8gf2tvdw0s3jn54khce6mua7l]"
_AGE = re.compile(rb"AGE-SECRET-KEY-(?:PQ-)?1" + _BECH32 + rb"{58,}")
_PUTTY = re.compile(rb"PuTTY-User-Key-File-[23]: [a-z0-9-]+\r?\nEncryption:")
_PACKED = base64.b64encode(b"-----BEGIN ")[:13]
_LONGEST = 16 << 10
assert _LONGEST < CONTEXT


def _pem(data: bytes, at: int) -> bool:
    begin = _BEGIN.match(data, at)
    if begin is None:
        return False
    rest = data[begin.end() : at + _LONGEST]
    headers = _HEADERS.match(rest)
    place = headers.end() if headers else 0
    length = 0
    body = b""
    while length < _SHORTEST:
        between = _BETWEEN.match(rest, place)
        place = between.end() if between else place
        part = _BASE64.match(rest, place)
        if part is None:
            return False
        # A word of prose, or an identifier, is no line of a key.
        if len(part[0]) < 16 and length + len(part[0]) < _SHORTEST:
            return False
        length += len(part[0])
        body += part[0]
        place = part.end()
    return len(set(body)) > 12


def _packed(data: bytes, at: int) -> bool:
    """A PEM file that was encoded once more, as Kubernetes' secrets are."""
    found = _BASE64.match(data, at, at + _LONGEST)
    if found is None:
        return False
    whole = found[0].rstrip(b"=")
    try:
        plain = base64.b64decode(whole[: len(whole) // 4 * 4])
    except binascii.Error:
        return False
    return _pem(plain, 0)


def _age(data: bytes, at: int) -> bool:
    found = _AGE.match(data, at)
    return found is not None and len(set(found[0][-58:])) > 10


def private_key_rules() -> tuple[Rule, ...]:
    """PEM and its kin, PEM in base64, age, PuTTY."""
    return (
        Rule("private-key", "pem-private-key", "a private key", (b"-----BEGIN ",), _pem),
        Rule("private-key", "packed-private-key", "a private key in base64", (_PACKED,), _packed),
        Rule("private-key", "age-identity", "an age identity", (b"AGE-SECRET-KEY-",), _age),
        Rule(
            "private-key", "putty-private-key", "a PuTTY private key", (b"PuTTY-User-Key-File-",),
            lambda data, at: _PUTTY.match(data, at) is not None,
        ),
    )  # fmt: skip
