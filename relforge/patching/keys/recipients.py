"""Recipients: who can open a bundle, by their public keys (age X25519 or RSA)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyrage
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relforge.errors import RelforgeError
from relforge.frozen import Frozen, sha256_hex
from relforge.manifest.common import Sha256
from relforge.patching.keys import keyfiles

_SMALLEST_RSA_BITS = 2048  # the age format's own limit


class RecipientId(Frozen):
    """A recipient as a bundle's header names it: enough to recognise, nothing to decrypt with."""

    kind: Literal["x25519", "rsa"]
    fingerprint: Sha256
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True)
class Recipient:
    """Somebody a bundle is sealed for. ``text`` is its line, as the age program takes it."""

    id: RecipientId
    native: Any = field(repr=False)
    """What pyrage takes."""
    text: str = field(default="", repr=False)


def load_recipients(specs: Iterable[str | Path]) -> tuple[Recipient, ...]:
    """Recipients from ``age1...`` or ``ssh-rsa ...`` texts, or from files or folders with them.

    In a folder ``*.pub`` and ``public_key.pem`` count. Raises RelforgeError (SOURCE) for whatever
    is no recipient, and for a private key given in its place.
    """
    result: dict[str, Recipient] = {}
    for spec in specs:
        if isinstance(spec, str) and spec.startswith(("age1", "ssh-rsa ")):
            found = [recipient_from_text(spec, name="", where="recipient")]
        else:
            found = _recipients_at(Path(spec))
        for recipient in found:
            result.setdefault(recipient.id.fingerprint, recipient)
    return tuple(result.values())


def public_files(folders: Iterable[Path]) -> dict[str, Path]:
    """Which public key files lie in folders, by fingerprint; whatever is none is passed over.

    For a file its folder is looked at: public halves lie beside their private ones.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for file in _public_in(folder if folder.is_dir() else folder.parent):
            try:
                for recipient in recipients_in(file, keyfiles.read(file)):
                    found.setdefault(recipient.id.fingerprint, file)
            except RelforgeError:
                continue
    return found


def recipients_in(path: Path, data: bytes) -> list[Recipient]:
    """The recipients that one file names. Raises RelforgeError (SOURCE)."""
    if keyfiles.is_private(data):
        raise keyfiles.unusable(
            path,
            "it is a private key; a recipient is named by the public one",
            f"write the public side to a file: relforge keys convert {path} --to recipient "
            "--out FILE",
        )
    if b"PUBLIC KEY-----" in data:
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise keyfiles.unusable(path, "the PEM block is damaged") from error
        return [rsa_recipient(key, path.stem, str(path))]
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    found = [
        recipient_from_text(line, name=path.name.split(".")[0], where=str(path))
        for line in lines
        if line and not line.startswith("#")
    ]
    if not found:
        raise keyfiles.unusable(path, "it is empty")
    return found


def recipient_from_text(text: str, *, name: str, where: str) -> Recipient:
    """One recipient from its line. Raises RelforgeError (SOURCE)."""
    if text.startswith("age1"):
        try:
            native = pyrage.x25519.Recipient.from_str(text)
        except pyrage.RecipientError as error:
            raise keyfiles.unusable(where, f"{text[:20]}... is no age X25519 recipient") from error
        return Recipient(age_id(text, name), native, text)
    if text.startswith("ssh-rsa "):
        try:
            key = serialization.load_ssh_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise keyfiles.unusable(where, "the ssh-rsa key is damaged") from error
        comment = " ".join(text.split()[2:])
        return rsa_recipient(key, name or comment, where)
    raise keyfiles.unusable(
        where, "a recipient is age1..., ssh-rsa ..., or an RSA public key in PEM form"
    )


def rsa_recipient(key: object, name: str, where: str) -> Recipient:
    """A recipient from an RSA public key. Raises RelforgeError (SOURCE) for any other key."""
    if not isinstance(key, rsa.RSAPublicKey):
        raise keyfiles.unusable(
            where,
            "a recipient is an age X25519 or an RSA key; this is neither",
            "name the .age.pub file, or an RSA public key; a .sign.pub.pem only checks signatures",
        )
    large_enough(key.key_size, where)
    ssh = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    try:
        native = pyrage.ssh.Recipient.from_str(ssh)
    except pyrage.RecipientError as error:
        # An odd exponent or modulus, of which age will have nothing.
        raise keyfiles.unusable(where, f"age does not take this RSA key: {error}") from error
    return Recipient(rsa_id(key, name), native, ssh)


def age_id(recipient: str, name: str) -> RecipientId:
    """An age recipient's id: the SHA-256 of its text."""
    return RecipientId(
        kind="x25519", fingerprint=sha256_hex(recipient.encode()), name=name.split(".")[0]
    )


def rsa_id(key: rsa.RSAPublicKey, name: str) -> RecipientId:
    """An RSA key's id: the SHA-256 of its SubjectPublicKeyInfo in DER."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return RecipientId(kind="rsa", fingerprint=sha256_hex(der), name=name)


def large_enough(bits: int, where: str) -> None:
    """Raises RelforgeError (SOURCE) for an RSA key that the age format does not take."""
    if bits < _SMALLEST_RSA_BITS:
        raise keyfiles.unusable(
            where, f"an RSA key has at least {_SMALLEST_RSA_BITS} bits, this has {bits}"
        )


def _recipients_at(path: Path) -> list[Recipient]:
    if not path.is_dir():
        return recipients_in(path, keyfiles.read(path))
    found = []
    for file in _public_in(path):
        found += recipients_in(file, keyfiles.read(file))
    if not found:
        raise keyfiles.unusable(path, "the folder holds no *.pub file and no public_key.pem")
    return found


def _public_in(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.pub"), *folder.glob("public_key.pem")])
