"""The key folder of FlagScale's tools: ``private_key.pem`` and ``public_key.pem``, RSA-4096.

What is there is never overwritten, and a missing public key is taken from the private one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write
from relforge.patching.flagscale.sealed import OpeningKey
from relforge.patching.keys import keyfiles
from relforge.patching.keys.passphrase import Passphrase

PRIVATE = "private_key.pem"
PUBLIC = "public_key.pem"
_BITS = 4096


@dataclass(frozen=True)
class KeyPair:
    """What seals, and where it is at hand, what opens again."""

    public: rsa.RSAPublicKey
    opening: tuple[OpeningKey, ...]


def key_pair(
    folder: Path, *, passphrase: Passphrase | None, on_line: Callable[[str], None]
) -> KeyPair:
    """The keys in a folder; a new pair when it holds neither. Raises RelforgeError (SOURCE)."""
    private_file, public_file = folder / PRIVATE, folder / PUBLIC
    if not private_file.exists() and not public_file.exists():
        return _new(folder, on_line)
    opening: tuple[OpeningKey, ...] = ()
    public: rsa.RSAPublicKey | None = None
    if private_file.exists():
        data = keyfiles.read(private_file)
        private = keyfiles.load_private_pem(private_file, data, passphrase)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise keyfiles.unusable(private_file, "FlagScale's format takes RSA keys")
        opening = ((private_file, private),)
        public = private.public_key()
    if public_file.exists():
        stated = _public(public_file)
        if public is not None and stated.public_numbers() != public.public_numbers():
            raise keyfiles.unusable(
                public_file,
                f"it does not belong to {PRIVATE} beside it",
                "decide which of the two is right, and remove the other",
            )
        public = stated
    assert public is not None
    return KeyPair(public, opening)


def _public(path: Path) -> rsa.RSAPublicKey:
    try:
        key = serialization.load_pem_public_key(keyfiles.read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise keyfiles.unusable(path, "it is no public key in PEM form") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise keyfiles.unusable(path, "FlagScale's format takes RSA keys")
    return key


def _new(folder: Path, on_line: Callable[[str], None]) -> KeyPair:
    private = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    made = []
    try:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
        for path, content, mode in (
            (folder / PRIVATE, pem, 0o600),
            (folder / PUBLIC, public_pem, 0o644),
        ):
            keyfiles.create(path, content, mode)
            made.append(path)
    except OSError as error:
        for path in made:  # half a pair would stand in the way; nobody has used it yet
            path.unlink(missing_ok=True)
        raise cannot_write(folder, error) from error
    on_line(f"made a new key pair in {folder}: give {PRIVATE} to those who may open the patch")
    return KeyPair(private.public_key(), ((folder / PRIVATE, private),))


def refuse_inside(folder: Path, repository: Path) -> None:
    """Raises RelforgeError (SOURCE) for a key folder from which the private key would be published.

    That is any below ``hardware/``, and elsewhere in the repository one whose keys are yet to be
    made: a pair that is there already may be left out of git by its owner.
    """
    place = folder.resolve()
    published = place.is_relative_to((repository / "hardware").resolve())
    new = place.is_relative_to(repository.resolve()) and not (place / PUBLIC).exists()
    if published or new:
        raise RelforgeError(
            "the keys would lie where patches are published from",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=f"whoever commits {'hardware/' if published else 'everything'} would publish the "
            "private key",
            hint="name a folder outside of the repository with --key-path",
        )
