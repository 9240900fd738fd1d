"""cosign's own private keys: scrypt and NaCl's secretbox around a key in PKCS#8.

Format: ``EncryptedData`` of go-securesystemslib's ``encrypted`` package as ``cosign
generate-key-pair`` writes it, in PEM: JSON with the key derivation's parameters, the nonce (24
bytes) and the ciphertext, each in base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization

from relforge import redact
from relforge.errors import RelforgeError
from relforge.patching.keys.passphrase import LockedKey, Passphrase, wrong_passphrase

if TYPE_CHECKING:
    from nacl.secret import SecretBox

_PEM = re.compile(
    rb"-----BEGIN ENCRYPTED (?P<maker>SIGSTORE|COSIGN) PRIVATE KEY-----\s+"
    rb"(?P<body>[A-Za-z0-9+/=\s]+)-----END ENCRYPTED (?P=maker) PRIVATE KEY-----"
)
_MOST_MEMORY_BYTES = 256 << 20
"""Of scrypt; what cosign writes takes 64 MiB."""


def is_cosign_key(data: bytes) -> bool:
    """Whether a file is a private key in cosign's form, by its look."""
    return _PEM.search(data) is not None


def open_cosign_key(path: Path, data: bytes, passphrase: Passphrase | None) -> object:
    """The key inside. cosign knows keys under an empty passphrase: that is tried when there is
    none. Raises RelforgeError (SOURCE) for another passphrase or a damaged file, LockedKey."""
    from nacl.exceptions import CryptoError

    answer = passphrase(path) if passphrase else None
    if answer:
        redact.register(answer)
    try:
        box, sealed = _box(data, (answer or "").encode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error
    try:
        plain = box.decrypt(sealed)
    except CryptoError as error:
        raise (wrong_passphrase(path) if answer else LockedKey(path)) from error
    try:
        return serialization.load_der_private_key(plain, None)
    except ValueError as error:
        raise _damaged(path) from error


def _box(data: bytes, passphrase: bytes) -> tuple[SecretBox, bytes]:
    from nacl.secret import SecretBox

    found = _PEM.search(data)
    if found is None:
        raise ValueError("no PEM of cosign's")
    value: dict[str, Any] = json.loads(base64.b64decode(found["body"]))
    kdf, cipher = value["kdf"], value["cipher"]
    if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
        raise ValueError(f"{kdf['name']} and {cipher['name']}")
    key = hashlib.scrypt(
        passphrase,
        salt=base64.b64decode(kdf["salt"]),
        n=kdf["params"]["N"],
        r=kdf["params"]["r"],
        p=kdf["params"]["p"],
        maxmem=_MOST_MEMORY_BYTES,
        dklen=32,
    )
    nonce = base64.b64decode(cipher["nonce"])
    if len(nonce) != SecretBox.NONCE_SIZE:
        raise ValueError(f"a nonce of {len(nonce)} bytes")
    return SecretBox(key), nonce + base64.b64decode(value["ciphertext"])


def _damaged(path: Path) -> RelforgeError:
    from relforge.patching.keys import keyfiles

    return keyfiles.unusable(
        path, "it looks like cosign's, and is damaged", "cosign generate-key-pair makes one"
    )
