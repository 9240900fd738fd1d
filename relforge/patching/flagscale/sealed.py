"""FlagScale's sealed file: IV (16 bytes), a wrapped key (512), AES-256-CBC with PKCS7 padding.

The key of 32 bytes is wrapped with RSA-4096 OAEP (SHA-256, MGF1 with SHA-256, no label). The format
has no magic number, no key id and no checksum: a flipped bit gives other bytes, and only the tree
that comes out can tell. Both directions work in chunks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.source import NotOpened

OpeningKey = tuple[Path, rsa.RSAPrivateKey]
"""A private key and the file it stands in."""

_IV_BYTES = 16
_WRAPPED_BYTES = 512
_KEY_BYTES = 32
_BLOCK_BYTES = 16
_KEY_BITS = _WRAPPED_BYTES * 8
HEAD_BYTES = _IV_BYTES + _WRAPPED_BYTES
SMALLEST_BYTES = HEAD_BYTES + _BLOCK_BYTES


def seal(plain: Iterable[bytes], key: rsa.RSAPublicKey) -> Iterator[bytes]:
    """The sealed file of *plain*. Raises RelforgeError (SOURCE) for a key that is not RSA-4096."""
    if key.key_size != _KEY_BITS:
        raise RelforgeError(
            "this key cannot seal for FlagScale",
            code=ExitCode.SOURCE,
            why=f"its format takes RSA keys of {_KEY_BITS} bits, this has {key.key_size}",
            hint="name a folder with such a key pair, or a new folder to make one in",
        )
    secret, iv = os.urandom(_KEY_BYTES), os.urandom(_IV_BYTES)
    yield iv + key.encrypt(secret, _oaep())
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    padder = padding.PKCS7(_BLOCK_BYTES * 8).padder()
    for chunk in plain:
        yield encryptor.update(padder.update(chunk))
    yield encryptor.update(padder.finalize()) + encryptor.finalize()


def unwrap(
    head: bytes, keys: Sequence[OpeningKey], *, where: str, others: Sequence[Path] = ()
) -> bytes:
    """The AES key in a file's first ``HEAD_BYTES`` bytes.

    ``others`` are key files of other kinds that were named. Raises NotOpened (SOURCE) that names
    the key files when none of the keys opens it.
    """
    if len(head) < HEAD_BYTES:
        raise damaged(where, f"it has {len(head)} bytes; the shortest such file has more")
    wrapped = head[_IV_BYTES:HEAD_BYTES]
    for _path, key in keys:
        if key.key_size != _KEY_BITS:
            continue
        try:
            secret = key.decrypt(wrapped, _oaep())
        except ValueError:
            continue
        if len(secret) != _KEY_BYTES:
            raise damaged(where, "the key inside it has not the length that the format asks for")
        return secret
    raise _not_opened(where, keys, others)


def open_chunks(
    head: bytes, body: Iterable[bytes], secret: bytes, *, where: str
) -> Iterator[bytes]:
    """The plain content, from the file's head and the chunks after it.

    Raises RelforgeError (SOURCE), at the latest after the last chunk, when the end is missing or
    the padding is not exactly right.
    """
    decryptor = Cipher(algorithms.AES(secret), modes.CBC(head[:_IV_BYTES])).decryptor()
    unpadder = padding.PKCS7(_BLOCK_BYTES * 8).unpadder()
    size = 0
    for chunk in body:
        size += len(chunk)
        yield unpadder.update(decryptor.update(chunk))
    if size == 0 or size % _BLOCK_BYTES:
        raise damaged(where, "its end is missing")
    try:
        yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise damaged(where, "its end is not what the format asks for") from error


def split_head(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first ``HEAD_BYTES`` bytes (fewer when there are no more), and the chunks after them."""
    rest = iter(chunks)
    start = b""
    while len(start) < HEAD_BYTES and (more := next(rest, None)) is not None:
        start += more

    def body() -> Iterator[bytes]:
        if start[HEAD_BYTES:]:
            yield start[HEAD_BYTES:]
        yield from rest

    return start[:HEAD_BYTES], body()


def damaged(where: str, why: str) -> RelforgeError:
    """The error for a sealed file that is not whole."""
    return RelforgeError(
        "the sealed patch is damaged",
        code=ExitCode.SOURCE,
        where=where,
        why=why,
        hint="fetch the file again from where it was published (git: `git lfs pull` where it is "
        "kept so), or ask its maker",
    )


def _not_opened(where: str, keys: Sequence[OpeningKey], others: Sequence[Path]) -> NotOpened:
    tried = ", ".join(str(path) for path, _key in keys)
    small = [str(path) for path, key in keys if key.key_size != _KEY_BITS]
    if not keys:
        why = "it is sealed, and no RSA private key was named"
        if others:
            why += f": {', '.join(str(path) for path in others)} is of another kind"
    elif len(small) == len(keys):
        why = (
            f"FlagScale seals with RSA keys of {_KEY_BITS} bits; {', '.join(small)} is no such key"
        )
    else:
        why = f"the key in {tried} is not the one it was sealed for, or its beginning is damaged"
    return NotOpened(
        "the sealed patch cannot be opened",
        code=ExitCode.SOURCE,
        where=where,
        why=why,
        hint="ask the device's vendor for the private key that belongs to this entry, and name its "
        "folder: --key-path DIR (the format does not say which key it is)",
    )


def _oaep() -> rsa_padding.OAEP:
    return rsa_padding.OAEP(rsa_padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
