"""Opening a bundle: everything is verified before it is handed out (docs/bundle-format.md).

It streams: the memory needed is that of the index, whatever the patches' size.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import pyrage
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.frozen import Frozen, canonical_json
from relforge.patching.bundle import tarstream
from relforge.patching.bundle.header import VerifiedHeader, altered, open_file, parse_header
from relforge.patching.keys import Identities, public_files
from relforge.patching.series import check_patch_name, content_sha256
from relforge.patching.source import NotOpened, Patch
from relforge.patching.tree.changes import FileChange

INDEX = "index.json"
_CHUNK = 1 << 18
_LARGEST_INDEX = 64 << 20
_PIPE_BYTES = 1 << 20


class IndexedPatch(Patch):
    """One patch inside a bundle, and what it does to each file."""

    files: tuple[FileChange, ...]


class BundleIndex(Frozen):
    """``index.json``, the first member of the encrypted archive."""

    format: Literal["relforge-bundle-index"] = "relforge-bundle-index"
    version: Literal[1] = 1
    patches: tuple[IndexedPatch, ...]


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose header, ciphertext and index are verified, ready to be read once, in order."""

    verified: VerifiedHeader
    index: BundleIndex
    raw_index: bytes = field(repr=False)
    """The index as it stands in the archive."""
    _archive: tarstream.Reader = field(repr=False)

    def patches(self) -> Iterator[tuple[IndexedPatch, Iterator[bytes]]]:
        """Each patch with its content in chunks, all of which must be taken before the next one.

        Raises RelforgeError (SOURCE) at a patch's last chunk when its hash is not the index's.
        """
        path = self.verified.path
        with _as_altered(path):
            for patch in self.index.patches:
                content = self._archive.member(f"patches/{patch.name}", patch.size_bytes)
                chunks = _checked(content, patch, path)
                yield patch, chunks
                for _ in chunks:  # whatever the caller did not read still has to match
                    pass
            self._archive.finish()


@contextlib.contextmanager
def opened(
    path: Path,
    trusted: Sequence[TrustedSigner],
    identities: Identities,
    *,
    allow_unsigned: bool = False,
) -> Iterator[OpenedBundle]:
    """Opens a bundle: verifies header and ciphertext hash, then decrypts, then checks the index.

    The index must give the header's signed content hash, and each patch must match the index, so
    that everything handed out is what was signed even when the file changes meanwhile. Raises
    RelforgeError (SOURCE).
    """
    with open_file(path) as handle:
        verified = parse_header(handle, path, trusted, allow_unsigned=allow_unsigned)
        _check_ciphertext(handle, verified)
        _somebody_can_open(verified, identities)
        handle.seek(verified.ciphertext_offset)
        with _decrypted(handle, verified, identities) as plain, _as_altered(path):
            archive = tarstream.Reader(plain)
            yield OpenedBundle(verified, *_read_index(archive, verified), archive)


def verify_ciphertext(verified: VerifiedHeader) -> None:
    """Reads a bundle's ciphertext and compares it with the header; needs no decryption key.

    Raises RelforgeError (SOURCE).
    """
    with open_file(verified.path) as handle:
        handle.seek(verified.ciphertext_offset)
        _check_ciphertext(handle, verified)


def open_bundle(
    path: Path,
    trusted: Sequence[TrustedSigner],
    identities: Identities,
    *,
    allow_unsigned: bool = False,
) -> Iterator[tuple[str, bytes]]:
    """Name and content of each patch in order, each verified before it is handed out.

    Raises RelforgeError (SOURCE) as ``opened`` does.
    """
    with opened(path, trusted, identities, allow_unsigned=allow_unsigned) as bundle:
        for patch, chunks in bundle.patches():
            yield patch.name, b"".join(chunks)


def _check_ciphertext(handle: IO[bytes], verified: VerifiedHeader) -> None:
    digest = hashlib.sha256()
    while chunk := handle.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != verified.header.ciphertext.sha256:
        raise altered(verified.path, "the SHA-256 of its ciphertext is not the one in its header")


def _somebody_can_open(verified: VerifiedHeader, identities: Identities) -> None:
    wanted = {recipient.fingerprint for recipient in verified.header.recipients}
    if wanted.isdisjoint(identity.id.fingerprint for identity in identities.keys):
        raise _wrong_key(verified, identities)


def _wrong_key(verified: VerifiedHeader, identities: Identities) -> RelforgeError:
    recipients = verified.header.recipients
    known = public_files(identities.looked_in)
    would = [
        f"{recipient}" + (f", whose public half is {known[recipient.fingerprint]}" if found else "")
        for recipient in recipients
        for found in [recipient.fingerprint in known]
    ]
    tried = [f"{identity.path} ({identity.id})" for identity in identities.keys]
    passed_over = [f"{finding.path} ({finding.problem})" for finding in identities.passed_over]
    why = [f"tried: {'; '.join(tried) or 'nothing'}", f"it is sealed for: {'; '.join(would)}"]
    if passed_over:
        why.insert(1, f"not tried: {'; '.join(passed_over)}")
    kinds = {key.id.kind for key in identities.keys}
    wanted = {recipient.kind for recipient in recipients}
    if kinds and kinds.isdisjoint(wanted):
        words = {"rsa": "RSA", "x25519": "age X25519"}
        why.append(
            f"it takes the {' or '.join(sorted(words[kind] for kind in wanted))} key of such a "
            f"recipient, and only {' and '.join(sorted(words[kind] for kind in kinds))} keys "
            "were tried"
        )
    return NotOpened(
        "none of the private keys opens the bundle"
        if tried
        else "there is no private key to open the bundle with",
        code=ExitCode.SOURCE,
        where=str(verified.path),
        why="\n".join(why),
        hint="name the private key of one of these recipients with --key-path, or in `identities` "
        "of the site configuration",
    )


@contextlib.contextmanager
def _decrypted(
    handle: IO[bytes], verified: VerifiedHeader, identities: Identities
) -> Iterator[IO[bytes]]:
    """The plaintext as a stream. pyrage pushes, so it runs in a thread at the end of a pipe."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    failures: list[BaseException] = []
    natives = [identity.native for identity in identities.keys]

    def push() -> None:
        try:
            with os.fdopen(write_end, "wb", buffering=_CHUNK) as writer:
                pyrage.decrypt_io(handle, writer, natives)
        except BaseException as error:  # noqa: BLE001  (handed to the reading thread)
            failures.append(error)

    thread = threading.Thread(target=push, name="decrypt", daemon=True)
    reader = os.fdopen(read_end, "rb", buffering=_CHUNK)
    thread.start()
    try:
        yield reader
    except RelforgeError as error:
        # What the reader stumbled over is a consequence when decryption itself failed.
        reader.close()
        thread.join()
        raise (_decryption_error(failures, verified, identities) or error) from error
    finally:
        reader.close()  # a writer that is still at work now gets EPIPE and ends
        thread.join()
    if (failed := _decryption_error(failures, verified, identities)) is not None:
        raise failed


def _decryption_error(
    failures: Sequence[BaseException], verified: VerifiedHeader, identities: Identities
) -> RelforgeError | None:
    for failure in failures:
        if isinstance(failure, BrokenPipeError):
            continue
        if isinstance(failure, pyrage.DecryptError) and "No matching keys" in str(failure):
            return _wrong_key(verified, identities)
        return altered(verified.path, f"it cannot be decrypted: {failure}")
    return None


def _read_index(archive: tarstream.Reader, verified: VerifiedHeader) -> tuple[BundleIndex, bytes]:
    path = verified.path
    try:
        raw = archive.first(INDEX, _LARGEST_INDEX)
        index = BundleIndex.model_validate_json(raw)
    except ValidationError as error:
        raise altered(path, f"its index is not valid: {error.errors()[0]['msg']}") from error
    if canonical_json(index) != raw:
        raise altered(path, "its index is not in canonical form")
    names = [patch.name for patch in index.patches]
    wrong = [why for why in map(check_patch_name, names) if why]
    if wrong or len(set(names)) != len(names) or not names:
        raise altered(path, wrong[0] if wrong else "a patch is named twice in it, or none at all")
    if content_sha256(index.patches) != verified.header.content_sha256:
        raise altered(path, "its patches or their order are not those that were signed")
    return index, raw


def _checked(content: Iterator[bytes], patch: Patch, path: Path) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in content:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != patch.sha256:
        raise altered(path, f"patch {patch.name} is not the one its index names")


@contextlib.contextmanager
def _as_altered(path: Path) -> Iterator[None]:
    try:
        yield
    except tarstream.UnexpectedContent as error:
        raise altered(path, str(error)) from error
