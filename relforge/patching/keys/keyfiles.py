"""Key files: reading them, telling what they hold, and writing them so that nothing is lost."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyrage
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.keys.cosignkey import is_cosign_key, open_cosign_key
from relforge.patching.keys.passphrase import Passphrase, ask, readable_by_others, wrong_passphrase

AGE_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105  (a prefix, not a secret)
AGE_FILE = b"age-encryption.org/v1\n"
AGE_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_LARGEST_KEY_FILE = 1 << 20

Kind = Literal["age", "age-locked", "private-pem", "public-pem", "public-line", "other"]


@dataclass(frozen=True)
class KeyFinding:
    """Something about a key file that its owner should mend; never fatal.

    An ``exposed`` key works, but others can read it; an ``unusable`` one was passed over, and so
    was a ``locked`` one, whose passphrase nobody gave.
    """

    path: Path
    problem: str
    remedy: str
    kind: Literal["exposed", "unusable", "locked"] = "exposed"


def kind_of(data: bytes) -> Kind:
    """What a file holds, by its look alone."""
    if data.startswith((AGE_FILE, AGE_ARMOR)):
        return "age-locked" if b"-> scrypt " in _age_head(data) else "other"
    if b"PRIVATE KEY-----" in data:
        return "private-pem"
    if b"PUBLIC KEY-----" in data:
        return "public-pem"
    lines = [line.strip() for line in data.splitlines()]
    if any(line.startswith(AGE_SECRET.encode()) for line in lines):
        return "age"
    if any(line.startswith((b"age1", b"ssh-")) for line in lines):
        return "public-line"
    return "other"


def is_private(data: bytes) -> bool:
    """Whether a file's look is that of a private key, of whatever use."""
    return kind_of(data) in ("age", "age-locked", "private-pem")


def files_at(path: Path, *, unreadable: Callable[[Path, OSError], None]) -> Iterator[Path]:
    """The file at *path*, or those of the folder there that may be keys.

    Raises RelforgeError (SOURCE) for a folder that cannot be listed; a file in it that cannot be
    looked at goes to ``unreadable``.
    """
    if not path.is_dir():
        yield path
        return
    try:
        found = sorted(path.iterdir())
    except OSError as error:
        raise cannot_read(path, error) from error
    for file in found:
        try:
            wanted = file.is_file() and file.stat().st_size <= _LARGEST_KEY_FILE
        except OSError as error:
            unreadable(file, error)
            continue
        if wanted:
            yield file


def exposed(path: Path) -> list[KeyFinding]:
    """A finding when other users can read the private key at *path*."""
    mode = readable_by_others(path)
    if mode is None:
        return []
    return [
        KeyFinding(
            path=path,
            problem=f"other users of this machine can read the private key (mode {mode:04o})",
            remedy=f"chmod 600 {path}",
        )
    ]


def exposed_keys(paths: Iterable[Path]) -> list[KeyFinding]:
    """Private keys at *paths*, files or folders, that other users can read. Raises nothing."""
    findings: list[KeyFinding] = []
    for path in paths:
        try:
            for file in files_at(path, unreadable=lambda _file, _error: None):
                # The mode decides before anything is read: a pipe must not be emptied by a look.
                if exposed(file) and is_private(read(file)):
                    findings += exposed(file)
        except RelforgeError:
            continue  # whoever uses the key says what is wrong with it
    return findings


def _load_pem(data: bytes, passphrase: bytes | None) -> object:
    # Testing that the factors are primes takes a third of a second; using the key once takes 7 ms.
    key = serialization.load_pem_private_key(data, passphrase, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, rsa.RSAPrivateKey):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        if key.decrypt(key.public_key().encrypt(b"works", oaep), oaep) != b"works":
            raise ValueError("the numbers of the key do not belong together")
    return key


def load_private_pem(path: Path, data: bytes, passphrase: Passphrase | None) -> object:
    """A private key in PEM, OpenSSH or cosign's form. Raises RelforgeError (SOURCE), LockedKey."""
    if is_cosign_key(data):
        return open_cosign_key(path, data, passphrase)
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load: Callable[[bytes, bytes | None], object] = (
        serialization.load_ssh_private_key if openssh else _load_pem
    )
    try:
        return load(data, None)
    except TypeError:
        pass  # cryptography's way to say that a passphrase is needed
    except (ValueError, UnsupportedAlgorithm) as error:
        # An encrypted OpenSSH key without passphrase is reported as ValueError by some versions.
        if not (openssh and "assword" in str(error)):
            raise unusable(path, "the private key is damaged or of an unknown kind") from error
    try:
        return load(data, ask(path, passphrase).encode())
    except UnsupportedAlgorithm as error:
        raise RelforgeError(
            "the private key's protection is not understood",
            code=ExitCode.SOURCE,
            where=str(path),
            why=str(error),
            hint=f"bring it into PEM form: ssh-keygen -p -m PEM -f {path}",
        ) from error
    except (ValueError, TypeError) as error:
        raise wrong_passphrase(path) from error


def is_protected(data: bytes) -> bool:
    """Whether a private key is under a passphrase."""
    if kind_of(data) == "age-locked" or is_cosign_key(data):
        return True
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    try:
        if openssh:
            serialization.load_ssh_private_key(data, None)
        elif kind_of(data) == "private-pem":
            serialization.load_pem_private_key(data, None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm) as error:
        return openssh and "assword" in str(error)
    return False


def unlock_age_file(path: Path, data: bytes, passphrase: Passphrase | None) -> bytes:
    """An age identity file's text from under its passphrase. Raises LockedKey, RelforgeError."""
    try:
        unlocked: bytes = pyrage.passphrase.decrypt(data, ask(path, passphrase))
    except pyrage.DecryptError as error:
        raise wrong_passphrase(path) from error
    return unlocked


def read(path: Path) -> bytes:
    """A key file's content. Raises RelforgeError (SOURCE) when it cannot be read or is no key."""
    try:
        with path.open("rb") as handle:
            data = handle.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise cannot_read(path, error) from error
    if len(data) > _LARGEST_KEY_FILE:
        raise unusable(path, "it is too large to be a key")
    return data


def create(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that does not exist yet, with exactly this mode. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as handle:
        os.fchmod(descriptor, mode)  # the umask may have taken bits away from the public files
        handle.write(content)
        handle.flush()
        os.fsync(descriptor)


def unusable(where: Path | str, why: str, hint: str | None = None) -> RelforgeError:
    """The error for a key that cannot be used as it was meant to."""
    return RelforgeError(
        "this key cannot be used",
        code=ExitCode.SOURCE,
        where=str(where),
        why=why,
        hint=hint or "name a key made by `relforge keys new`, or an RSA key in PEM form",
    )


def cannot_read(path: Path, error: OSError) -> RelforgeError:
    """The error for a key file or folder that the system does not let us read."""
    return RelforgeError(
        "the key cannot be read",
        code=ExitCode.SOURCE,
        where=str(path),
        why=error.strerror or str(error),
        hint="check the path; `relforge doctor` shows which keys are configured",
    )


def _age_head(data: bytes) -> bytes:
    """The first lines of an age file, whose stanzas say for whom it is encrypted."""
    if data.startswith(AGE_FILE):
        return data[:512]
    body = b"".join(data.splitlines()[1:9])
    try:
        return base64.b64decode(body[: len(body) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""
