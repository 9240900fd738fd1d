"""Keys: who can open a bundle (age X25519 or RSA) and who signs it (ECDSA P-256 or Ed25519).

Fingerprints, as a bundle's header names its recipients:
an age recipient's is the SHA-256 of its text ``age1...``; an RSA key's is the SHA-256 of its
SubjectPublicKeyInfo in DER. The age format takes RSA keys in their SSH form, so a vendor's existing
``private_key.pem`` and ``public_key.pem`` work as they are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import pyrage
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import PrivateKey, TrustedSigner, key_id
from relforge.files import cannot_write
from relforge.frozen import Frozen, sha256_hex
from relforge.manifest.common import Sha256

Passphrase = Callable[[Path], "str | None"]
"""Asks for the passphrase of a key file; ``None`` when there is nobody to ask."""

_AGE_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105  (a prefix, not a secret)
_KEY_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_LARGEST_KEY_FILE = 1 << 20
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
    """Somebody a bundle is sealed for."""

    id: RecipientId
    native: Any = field(repr=False)
    """What pyrage takes."""


@dataclass(frozen=True)
class Identity:
    """A private key that may open a bundle."""

    id: RecipientId
    path: Path
    native: Any = field(repr=False)
    """What pyrage takes."""


@dataclass(frozen=True)
class KeyFinding:
    """Something about a key file that its owner should mend; never fatal."""

    path: Path
    problem: str
    remedy: str


@dataclass(frozen=True)
class Identities:
    """The private keys that were found, where was looked for them, and what is wrong with them."""

    keys: tuple[Identity, ...] = ()
    looked_in: tuple[Path, ...] = ()
    findings: tuple[KeyFinding, ...] = ()


@dataclass(frozen=True)
class NewKeys:
    """The four files of a fresh key pair, and what to hand to others."""

    identity: Path
    recipient: Path
    signing_key: Path
    signing_public: Path
    recipient_text: str
    signing_keyid: str


def new_keys(folder: Path, name: str) -> NewKeys:
    """Makes ``NAME.age.key``, ``NAME.age.pub``, ``NAME.sign.pem`` and ``NAME.sign.pub.pem``.

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
    signing = ec.generate_private_key(ec.SECP256R1())
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
            _create(path, content, mode)
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


def load_identities(paths: Iterable[Path], *, passphrase: Passphrase | None = None) -> Identities:
    """Private keys from files, or from folders, where whatever is no private key is passed over.

    Reads age identity files, also passphrase-protected ones, and RSA keys in PEM (PKCS#1, PKCS#8)
    or OpenSSH form. Raises RelforgeError (SOURCE) for a missing path, a named file without a usable
    private key, a wrong passphrase, and when nothing at all is found.
    """
    keys: list[Identity] = []
    findings: list[KeyFinding] = []
    looked_in: list[Path] = []
    for path in paths:
        looked_in.append(path)
        for file, data, named in _key_files(path):
            found = _identities_in(file, data, passphrase)
            if not found and named:
                raise _unusable(file, "it holds no age identity and no RSA private key")
            if found:
                keys += found
                findings += _readable_by_others(file)
    if looked_in and not keys:
        raise RelforgeError(
            "no private key was found",
            code=ExitCode.SOURCE,
            where=", ".join(str(path) for path in looked_in),
            why="no file there holds an age identity or an RSA private key",
            hint="name the folder or file with the private key (--key-path)",
        )
    return Identities(tuple(keys), tuple(looked_in), tuple(findings))


def load_recipients(specs: Iterable[str | Path]) -> tuple[Recipient, ...]:
    """Recipients from ``age1...`` or ``ssh-rsa ...`` texts, or from files or folders with them.

    In a folder ``*.pub`` and ``public_key.pem`` count. Raises RelforgeError (SOURCE) for whatever
    is no recipient, and for a private key given in its place.
    """
    result: dict[str, Recipient] = {}
    for spec in specs:
        if isinstance(spec, str) and spec.startswith(("age1", "ssh-rsa ")):
            found = [_recipient_from_text(spec, name="", where="recipient")]
        else:
            found = _recipients_at(Path(spec))
        for recipient in found:
            result.setdefault(recipient.id.fingerprint, recipient)
    return tuple(result.values())


def load_signing_key(path: Path, *, passphrase: Passphrase | None = None) -> PrivateKey:
    """The private key that signs bundles. Raises RelforgeError (SOURCE)."""
    key = _load_pem_private(path, _read(path), passphrase)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _unusable(path, "signatures take an ECDSA P-256 or Ed25519 key")


def load_signer(name: str, public_pem: Path | bytes) -> TrustedSigner:
    """A trusted signer from a PEM file or text. Raises RelforgeError (SOURCE)."""
    where = str(public_pem) if isinstance(public_pem, Path) else f"public key of {name}"
    data = _read(public_pem) if isinstance(public_pem, Path) else public_pem
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(where, "it is no public key in PEM form") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return TrustedSigner(name, key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return TrustedSigner(name, key)
    raise _unusable(where, "signatures take an ECDSA P-256 or Ed25519 key")


def _create(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as handle:
        os.fchmod(descriptor, mode)  # the umask may have taken bits away from the public files
        handle.write(content)
        handle.flush()
        os.fsync(descriptor)


def _key_files(path: Path) -> Iterable[tuple[Path, bytes, bool]]:
    if not path.is_dir():
        yield path, _read(path), True
        return
    for file in sorted(path.iterdir()):
        if file.is_file() and file.stat().st_size <= _LARGEST_KEY_FILE:
            yield file, _read(file), False


def _identities_in(path: Path, data: bytes, passphrase: Passphrase | None) -> list[Identity]:
    if data.startswith((b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")):
        data = _unlock_age_file(path, data, passphrase)
    if b"PRIVATE KEY-----" in data:
        if b"BEGIN EC PRIVATE KEY" in data:
            return []
        key = _load_pem_private(path, data, passphrase)
        return [_rsa_identity(path, key)] if isinstance(key, rsa.RSAPrivateKey) else []
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        if line.strip().startswith(_AGE_SECRET):
            redact.register(line)
            try:
                native = pyrage.x25519.Identity.from_str(line.strip())
            except pyrage.IdentityError as error:
                raise _unusable(path, "the AGE-SECRET-KEY line is damaged") from error
            found.append(Identity(_age_id(str(native.to_public()), path.stem), path, native))
    return found


def _rsa_identity(path: Path, key: rsa.RSAPrivateKey) -> Identity:
    _large_enough(key.key_size, str(path))
    # pyrage reads PKCS#1 and OpenSSH, but not PKCS#8.
    pem = key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return Identity(
        _rsa_id(key.public_key(), path.stem), path, pyrage.ssh.Identity.from_buffer(pem)
    )


def _recipients_at(path: Path) -> list[Recipient]:
    if path.is_dir():
        found = []
        for file in sorted([*path.glob("*.pub"), *path.glob("public_key.pem")]):
            found += _recipients_in(file, _read(file))
        if not found:
            raise _unusable(path, "the folder holds no *.pub file and no public_key.pem")
        return found
    return _recipients_in(path, _read(path))


def _recipients_in(path: Path, data: bytes) -> list[Recipient]:
    if b"PRIVATE KEY-----" in data or _AGE_SECRET.encode() in data:
        raise _unusable(path, "it is a private key; a recipient is named by the public one")
    if b"PUBLIC KEY-----" in data:
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _unusable(path, "the PEM block is damaged") from error
        return [_rsa_recipient(key, path.stem, str(path))]
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    found = [
        _recipient_from_text(line, name=path.name.split(".")[0], where=str(path))
        for line in lines
        if line and not line.startswith("#")
    ]
    if not found:
        raise _unusable(path, "it is empty")
    return found


def _recipient_from_text(text: str, *, name: str, where: str) -> Recipient:
    if text.startswith("age1"):
        try:
            return Recipient(_age_id(text, name), pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError as error:
            raise _unusable(where, f"{text[:20]}... is no age X25519 recipient") from error
    if text.startswith("ssh-rsa "):
        try:
            key = serialization.load_ssh_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _unusable(where, "the ssh-rsa key is damaged") from error
        comment = " ".join(text.split()[2:])
        return _rsa_recipient(key, name or comment, where)
    raise _unusable(where, "a recipient is age1..., ssh-rsa ..., or an RSA public key in PEM form")


def _rsa_recipient(key: object, name: str, where: str) -> Recipient:
    if not isinstance(key, rsa.RSAPublicKey):
        raise _unusable(where, "a recipient is an age X25519 or an RSA key; this is neither")
    _large_enough(key.key_size, where)
    ssh = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Recipient(_rsa_id(key, name), pyrage.ssh.Recipient.from_str(ssh))


def _age_id(recipient: str, name: str) -> RecipientId:
    return RecipientId(
        kind="x25519", fingerprint=sha256_hex(recipient.encode()), name=name.split(".")[0]
    )


def _rsa_id(key: rsa.RSAPublicKey, name: str) -> RecipientId:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return RecipientId(kind="rsa", fingerprint=sha256_hex(der), name=name)


def _large_enough(bits: int, where: str) -> None:
    if bits < _SMALLEST_RSA_BITS:
        raise _unusable(
            where, f"an RSA key has at least {_SMALLEST_RSA_BITS} bits, this has {bits}"
        )


def _load_pem_private(path: Path, data: bytes, passphrase: Passphrase | None) -> object:
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load: Callable[[bytes, bytes | None], object] = (
        serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    )
    try:
        return load(data, None)
    except TypeError:
        pass  # cryptography's way to say that a passphrase is needed
    except (ValueError, UnsupportedAlgorithm) as error:
        # An encrypted OpenSSH key without passphrase is reported as ValueError by some versions.
        if not (openssh and "assword" in str(error)):
            raise _unusable(path, "the private key is damaged or of an unknown kind") from error
    try:
        return load(data, _ask(path, passphrase).encode())
    except UnsupportedAlgorithm as error:
        # OpenSSH's own form takes bcrypt, which is a package of its own.
        raise RelforgeError(
            "the private key's protection is not understood",
            code=ExitCode.SOURCE,
            where=str(path),
            why=str(error),
            hint=f"bring it into PEM form: ssh-keygen -p -m PEM -f {path}",
        ) from error
    except (ValueError, TypeError) as error:
        raise _wrong_passphrase(path) from error


def _unlock_age_file(path: Path, data: bytes, passphrase: Passphrase | None) -> bytes:
    try:
        unlocked: bytes = pyrage.passphrase.decrypt(data, _ask(path, passphrase))
    except pyrage.DecryptError as error:
        raise _wrong_passphrase(path) from error
    return unlocked


def _ask(path: Path, passphrase: Passphrase | None) -> str:
    answer = passphrase(path) if passphrase else None
    if not answer:
        raise RelforgeError(
            "the private key is protected by a passphrase",
            code=ExitCode.SOURCE,
            where=str(path),
            hint="take it off a copy that only you can read: openssl pkey -in KEY -out COPY",
        )
    redact.register(answer)
    return answer


def _wrong_passphrase(path: Path) -> RelforgeError:
    return RelforgeError(
        "the passphrase does not open the private key",
        code=ExitCode.SOURCE,
        where=str(path),
        hint="try again with the right passphrase",
    )


def _readable_by_others(path: Path) -> list[KeyFinding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return []
    return [
        KeyFinding(
            path=path,
            problem=f"other users of this machine can read the private key (mode {mode:04o})",
            remedy=f"chmod 600 {path}",
        )
    ]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise RelforgeError(
            "the key cannot be read",
            code=ExitCode.SOURCE,
            where=str(path),
            why=error.strerror or str(error),
            hint="check the path; `relforge doctor` shows which keys are configured",
        ) from error
    if len(data) > _LARGEST_KEY_FILE:
        raise _unusable(path, "it is too large to be a key")
    return data


def _unusable(where: Path | str, why: str) -> RelforgeError:
    return RelforgeError(
        "this key cannot be used",
        code=ExitCode.SOURCE,
        where=str(where),
        why=why,
        hint="name a key made by `age-keygen` or `scripts/quickstart`, or an RSA key in PEM form",
    )
