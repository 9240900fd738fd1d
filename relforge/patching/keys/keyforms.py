"""Forms of one key: FlagScale's PEM pair, the lines and files of age and ssh, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import PublicKey, key_id
from relforge.files import cannot_write
from relforge.frozen import Frozen
from relforge.patching.keys import keyfiles
from relforge.patching.keys.identities import age_identities, rsa_identity
from relforge.patching.keys.keyfiles import KeyFinding
from relforge.patching.keys.passphrase import LockedKey, Passphrase, ask
from relforge.patching.keys.recipients import RecipientId, recipients_in
from relforge.patching.keys.signing import load_signer, load_signing_key

Form = Literal["recipient", "public-pem", "pem", "openssh"]
FORMS: tuple[Form, ...] = get_args(Form)
PRIVATE_FORMS: tuple[Form, ...] = ("pem", "openssh")


class PublicSide(Frozen):
    """What may be shown of a key file: which key it is, and what it is good for."""

    file: Path
    holds: Literal["private", "public"]
    use: Literal["open", "sign"]
    kind: str
    fingerprint: str
    """A recipient's fingerprint, or a signer's key id."""
    name: str = ""
    public: str = ""
    """A recipient's line, as ``--recipient`` takes it."""

    def __str__(self) -> str:
        what = f"{self.kind} {self.fingerprint}" + (f" ({self.name})" if self.name else "")
        return f"{self.holds} key to {self.use} with, {what}"


@dataclass(frozen=True)
class Shown:
    """The public sides of the keys at a path, and what is wrong with others there."""

    sides: tuple[PublicSide, ...]
    findings: tuple[KeyFinding, ...]


def show(path: Path, *, passphrase: Passphrase | None = None) -> Shown:
    """The public sides of a key file, or of all keys in a folder, private and public ones.

    Raises RelforgeError (SOURCE) when there is none, for a named file that is no key, and
    LockedKey for one whose public side is under a passphrase that nobody gives.
    """
    sides: list[PublicSide] = []
    findings: list[KeyFinding] = []
    in_folder = path.is_dir()

    def pass_over(file: Path, failed: RelforgeError) -> None:
        kind: Literal["locked", "unusable"] = (
            "locked" if isinstance(failed, LockedKey) else "unusable"
        )
        problem = failed.what if kind == "locked" else failed.why or failed.what
        findings.append(KeyFinding(file, problem, failed.hint or "", kind))

    for file in keyfiles.files_at(
        path, unreadable=lambda file, error: pass_over(file, keyfiles.cannot_read(file, error))
    ):
        try:
            data = keyfiles.read(file)
            if in_folder and keyfiles.kind_of(data) == "other":
                continue
            sides += _sides(file, data, passphrase)
            if keyfiles.is_private(data):
                findings += keyfiles.exposed(file)
        except RelforgeError as failed:
            if not in_folder:
                raise
            pass_over(file, failed)
    if not sides and not findings:
        raise keyfiles.unusable(path, "no file there holds a key")
    return Shown(tuple(sides), tuple(findings))


def convert(
    path: Path,
    to: Form,
    out: Path,
    *,
    passphrase: Passphrase | None = None,
    unprotected: bool = False,
) -> None:
    """Writes the key at *path* in another form to the new file *out*; private ones with mode 0600.

    A key under a passphrase stays under the same one, unless ``unprotected``. Raises RelforgeError:
    USAGE when *out* exists or the key has no such form, SOURCE for a file that is no key.
    """
    if out.exists() or out.is_symlink():
        raise RelforgeError(
            "the file is there already, and a key is never overwritten",
            code=ExitCode.USAGE,
            where=str(out),
            hint="name another file with --out",
        )
    content = _converted(path, keyfiles.read(path), to, passphrase, unprotected)
    try:
        if not out.parent.exists():
            out.parent.mkdir(parents=True, mode=0o700)
        keyfiles.create(out, content, 0o600 if to in PRIVATE_FORMS else 0o644)
    except FileExistsError as error:
        raise cannot_write(out, error) from error
    except OSError as error:
        out.unlink(missing_ok=True)
        raise cannot_write(out, error) from error


def _sides(file: Path, data: bytes, passphrase: Passphrase | None) -> list[PublicSide]:
    kind = keyfiles.kind_of(data)
    if kind == "public-line":
        return [_opens(file, "public", r.id, r.text) for r in recipients_in(file, data)]
    if kind == "public-pem":
        public = _load_public(file, data)
        if isinstance(public, rsa.RSAPublicKey):
            return [_opens(file, "public", r.id, r.text) for r in recipients_in(file, data)]
        return [_signs(file, "public", load_signer(file.stem, file).public_key)]
    if kind == "private-pem":
        key = keyfiles.load_private_pem(file, data, passphrase)
        if not isinstance(key, rsa.RSAPrivateKey):
            signing = load_signing_key(file, passphrase=passphrase)
            return [_signs(file, "private", signing.public_key())]
        identity = rsa_identity(file, key)
        return [_opens(file, "private", identity.id, _ssh_line(key.public_key()))]
    if kind == "age-locked":
        data = keyfiles.unlock_age_file(file, data, passphrase)
    found = age_identities(file, data)
    if not found:
        raise keyfiles.unusable(file, "it holds no key")
    return [_opens(file, "private", i.id, str(i.native.to_public())) for i in found]


def _opens(
    file: Path, holds: Literal["private", "public"], id: RecipientId, public: str
) -> PublicSide:
    return PublicSide(
        file=file,
        holds=holds,
        use="open",
        kind=id.kind,
        fingerprint=id.fingerprint,
        name=id.name,
        public=public,
    )


def _signs(file: Path, holds: Literal["private", "public"], key: PublicKey) -> PublicSide:
    kind = "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "ecdsa-p256"
    return PublicSide(file=file, holds=holds, use="sign", kind=kind, fingerprint=key_id(key))


def _converted(
    path: Path, data: bytes, to: Form, passphrase: Passphrase | None, unprotected: bool
) -> bytes:
    kind = keyfiles.kind_of(data)
    if kind in ("age", "age-locked"):
        if to != "recipient":
            raise _no_such_form(path, to, "an age X25519 key", "recipient")
        if kind == "age-locked":
            data = keyfiles.unlock_age_file(path, data, passphrase)
        found = age_identities(path, data)
        if not found:
            raise keyfiles.unusable(path, "it holds no age identity")
        return "".join(f"{identity.native.to_public()}\n" for identity in found).encode()
    if kind == "private-pem":
        key = keyfiles.load_private_pem(path, data, passphrase)
        if not isinstance(key, rsa.RSAPrivateKey):
            if to != "public-pem":
                raise _no_such_form(path, to, "a signing key", "public-pem")
            signing = load_signing_key(path, passphrase=passphrase)
            return _spki(signing.public_key())
        if to in PRIVATE_FORMS:
            locked = keyfiles.is_protected(data) and not unprotected
            lock: KeySerializationEncryption = (
                BestAvailableEncryption(ask(path, passphrase).encode())
                if locked
                else NoEncryption()
            )
            return _private(key, to, lock, locked=locked)
        public: object = key.public_key()
    else:
        if kind == "public-pem":
            public = _load_public(path, data)
        elif kind == "public-line":
            public = _load_line(path, data)
        else:
            raise keyfiles.unusable(path, "it holds no key")
        if to in PRIVATE_FORMS:
            raise _no_such_form(path, to, "a public key", "recipient or public-pem")
    if not isinstance(public, rsa.RSAPublicKey):
        raise _no_such_form(path, to, "a key that is not RSA", "no other")
    return _spki(public) if to == "public-pem" else f"{_ssh_line(public)}\n".encode()


def _private(
    key: rsa.RSAPrivateKey, to: Form, lock: KeySerializationEncryption, *, locked: bool
) -> bytes:
    if to == "openssh":
        return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock)
    # PKCS#1 is what FlagScale's tool and age read; its own protection is weak, PKCS#8's is not.
    form = PrivateFormat.PKCS8 if locked else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, lock)


def _load_public(path: Path, data: bytes) -> object:
    try:
        return serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise keyfiles.unusable(path, "the PEM block is damaged") from error


def _load_line(path: Path, data: bytes) -> object:
    (recipient, *others) = recipients_in(path, data)
    if recipient.id.kind != "rsa" or others:
        return None
    return serialization.load_ssh_public_key(recipient.text.encode())


def _spki(key: PublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _ssh_line(key: rsa.RSAPublicKey) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _no_such_form(path: Path, to: Form, what: str, has: str) -> RelforgeError:
    return RelforgeError(
        f"the key has no form {to!r}",
        code=ExitCode.USAGE,
        where=str(path),
        why=f"it is {what}, whose forms are: {has}",
        hint="relforge keys convert --help",
    )
