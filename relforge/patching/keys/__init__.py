"""Keys: who can open a bundle (age X25519 or RSA) and who signs it (ECDSA P-256 or Ed25519).

Fingerprints, as a bundle's header names its recipients:
an age recipient's is the SHA-256 of its text ``age1...``; an RSA key's is the SHA-256 of its
SubjectPublicKeyInfo in DER. The age format takes RSA keys in their SSH form, so a vendor's existing
``private_key.pem`` and ``public_key.pem`` work as they are.

This module makes keys and hands out the doors of the others: ``identities`` (what opens),
``recipients`` (who may open), ``signing``, ``passphrase``, ``keyfiles``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import PrivateKey, key_id
from relforge.files import cannot_write
from relforge.patching.identity import Identities, Identity
from relforge.patching.keys.identities import load_identities
from relforge.patching.keys.keyfiles import KeyFinding, create, exposed_keys
from relforge.patching.keys.passphrase import (
    LockedKey,
    Passphrase,
    given_passphrase,
    passphrase_from,
)
from relforge.patching.keys.recipients import (
    Recipient,
    RecipientId,
    load_recipients,
    public_files,
)
from relforge.patching.keys.signing import load_signer, load_signing_key

__all__ = [
    "Identities",
    "Identity",
    "KeyFinding",
    "LockedKey",
    "NewKeys",
    "Passphrase",
    "Recipient",
    "RecipientId",
    "exposed_keys",
    "given_passphrase",
    "load_identities",
    "load_recipients",
    "load_signer",
    "load_signing_key",
    "new_keys",
    "passphrase_from",
    "public_files",
]

_KEY_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


@dataclass(frozen=True)
class NewKeys:
    """The four files of a fresh key pair, and what to hand to others."""

    identity: Path
    recipient: Path
    signing_key: Path
    signing_public: Path
    recipient_text: str
    signing_keyid: str


def new_keys(folder: Path, name: str, *, use_ed25519: bool = False) -> NewKeys:
    """Makes ``NAME.age.key``, ``NAME.age.pub``, ``NAME.sign.pem`` and ``NAME.sign.pub.pem``.

    The signing key is ECDSA P-256, or with ``use_ed25519`` Ed25519.

    The private files have mode 0600. Raises RelforgeError (SOURCE) when one of the four exists:
    a key is never overwritten.
    """
    if not _KEY_NAME.match(name):
        raise RelforgeError(
            f"{name!r} is no name for a key",
            code=ExitCode.USAGE,
            why="it becomes the beginning of four file names",
            hint="use letters, digits, dots, dashes and underscores",
        )
    identity_file, recipient_file, signing_file, public_file = paths = tuple(
        folder / f"{name}.{end}" for end in ("age.key", "age.pub", "sign.pem", "sign.pub.pem")
    )
    taken = [str(path) for path in paths if path.exists() or path.is_symlink()]
    if taken:
        raise RelforgeError(
            "there are keys of that name already, and a key is never overwritten",
            code=ExitCode.SOURCE,
            where=", ".join(taken),
            hint="choose another name or folder",
        )
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    secret = str(identity)
    redact.register(secret)
    signing: PrivateKey = (
        ed25519.Ed25519PrivateKey.generate()
        if use_ed25519
        else ec.generate_private_key(ec.SECP256R1())
    )
    private_pem = signing.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"# created: {now}\n# public key: {recipient}\n{secret}\n"
    contents = (text.encode(), f"{recipient}\n".encode(), private_pem, public_pem)
    try:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
        for path, content, mode in zip(paths, contents, (0o600, 0o644, 0o600, 0o644), strict=True):
            create(path, content, mode)
    except OSError as error:
        # Half a key pair would stand in the way of the next try; nobody has used it yet.
        for path in paths:
            path.unlink(missing_ok=True)
        raise cannot_write(folder, error) from error
    return NewKeys(
        identity=identity_file,
        recipient=recipient_file,
        signing_key=signing_file,
        signing_public=public_file,
        recipient_text=recipient,
        signing_keyid=key_id(signing.public_key()),
    )
