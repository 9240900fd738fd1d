"""Bundles: sealing a patch set, and opening it again (format: docs/bundle-format.md).

Both directions stream: the memory needed is that of the largest patch, whatever the set's size.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Literal

import pyrage
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import PrivateKey, TrustedSigner
from relforge.files import cannot_write, sync_folder
from relforge.frozen import Frozen, canonical_json
from relforge.patching import tarstream
from relforge.patching.apply import FileChange, apply_patches
from relforge.patching.header import (
    BundleSource,
    Ciphertext,
    Header,
    VerifiedHeader,
    altered,
    header_bytes,
    open_file,
    parse_header,
    read_header,
)
from relforge.patching.keys import Identities, Recipient
from relforge.patching.series import PlainPatches, check_patch_name, content_sha256
from relforge.patching.source import Diff, Patch, PatchSetInfo, PatchStream, Ships, Trust
from relforge.patching.workarea import work_area

INDEX = "index.json"
_CHUNK = 1 << 18
_LARGEST_INDEX = 64 << 20
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True)
class BundlePatches:
    """A patch set that lies sealed in one file."""

    path: Path

    def info(self, trust: Trust) -> PatchSetInfo:
        """What its verified header says; no private key is needed."""
        return read_header(self.path, trust.signers, allow_unsigned=trust.allow_unsigned).info

    @contextlib.contextmanager
    def stream(self, trust: Trust) -> Iterator[PatchStream]:
        """Its patches, decrypted while they are read."""
        with opened(
            self.path, trust.signers, trust.identities, allow_unsigned=trust.allow_unsigned
        ) as bundle:
            patches = tuple(
                Patch(name=p.name, sha256=p.sha256, size_bytes=p.size_bytes)
                for p in bundle.index.patches
            )
            diffs = (Diff(patch.name, chunks) for patch, chunks in bundle.patches())
            yield PatchStream(patches, bundle.verified.info, diffs, str(self.path))


class IndexedPatch(Patch):
    """One patch inside a bundle, and what it does to each file."""

    files: tuple[FileChange, ...]


class BundleIndex(Frozen):
    """``index.json``, the first member of the encrypted archive."""

    format: Literal["relforge-bundle-index"] = "relforge-bundle-index"
    version: Literal[1] = 1
    patches: tuple[IndexedPatch, ...]


class SealedBundle(Frozen):
    """What ``seal`` made."""

    path: Path
    sha256: str
    size_bytes: int
    header: Header


def seal(
    patches: PlainPatches,
    *,
    store_git_dir: Path,
    source: BundleSource,
    base_commit: str | None,
    base_tree: str,
    device: str | None,
    ships: Ships,
    creator: str,
    recipients: Sequence[Recipient],
    signing_key: PrivateKey | None,
    out: Path,
    home: Path,
    created_utc: str | None = None,
    annotations: dict[str, str] | None = None,
) -> SealedBundle:
    """Seals a plain patch set into the file ``out``, which is replaced in one step.

    The patches are first applied to ``base_tree`` (in a work area below ``home``); the tree that
    comes out is written into the header. ``signing_key=None`` makes an unsigned bundle, which
    nobody opens without saying so. Raises RelforgeError (SOURCE) when a patch does not apply or
    there is no recipient.
    """
    if not recipients:
        raise RelforgeError(
            "a bundle needs at least one recipient",
            code=ExitCode.SOURCE,
            where=str(out),
            hint="name the public key of whoever shall open it (age1..., ssh-rsa ..., or a file)",
        )
    with work_area(home, "seal") as area:
        applied = apply_patches(
            store_git_dir,
            base_tree,
            (Diff(patch.name, patches.chunks(patch)) for patch in patches.patch_set.patches),
            object_dir=area / "objects",
            work=area,
            per_patch=True,
        )
    rows = zip(patches.patch_set.patches, applied.per_patch, strict=True)
    index = BundleIndex(
        patches=tuple(IndexedPatch(**dict(patch), files=files) for patch, files in rows)
    )
    with _temporary(out) as (body, whole):
        hashing = _HashingWriter(body)
        reader = tarstream.ChunkReader(_tar_chunks(patches, index))
        pyrage.encrypt_io(reader, hashing, [recipient.native for recipient in recipients])
        header = Header(
            name=patches.patch_set.name,
            source=source,
            base_commit=base_commit,
            base_tree=base_tree,
            device=device,
            recipients=tuple(recipient.id for recipient in recipients),
            ciphertext=Ciphertext(sha256=hashing.hexdigest(), size_bytes=hashing.size_bytes),
            content_sha256=patches.patch_set.content_sha256,
            result_tree=applied.tree,
            ships=ships,
            creator=creator,
            created_utc=created_utc or datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            annotations=annotations or {},
        )
        writer = _HashingWriter(whole)
        writer.write(header_bytes(header, signing_key))
        body.seek(0)
        shutil.copyfileobj(body, writer, _CHUNK)
    return SealedBundle(
        path=out.absolute(), sha256=writer.hexdigest(), size_bytes=writer.size_bytes, header=header
    )


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose header, ciphertext and index are verified, ready to be read once, in order."""

    verified: VerifiedHeader
    index: BundleIndex
    _archive: tarstream.Reader

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
            yield OpenedBundle(verified, _read_index(archive, verified), archive)


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


def _tar_chunks(patches: PlainPatches, index: BundleIndex) -> Iterator[bytes]:
    raw_index = canonical_json(index)
    yield tarstream.member_header(INDEX, len(raw_index))
    yield raw_index
    yield tarstream.padding(len(raw_index))
    for patch in patches.patch_set.patches:
        yield tarstream.member_header(f"patches/{patch.name}", patch.size_bytes)
        yield from patches.chunks(patch)
        yield tarstream.padding(patch.size_bytes)
    yield tarstream.end()


class _HashingWriter:
    """Writes through to a file and keeps the hash and size of what went by."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def _temporary(out: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A nameless file for the ciphertext, and the file that becomes ``out`` on success."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        with os.fdopen(descriptor, "wb") as whole, tempfile.TemporaryFile(dir=out.parent) as body:
            yield body, whole
            whole.flush()
            os.fsync(whole.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(out)
        sync_folder(out.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if isinstance(error, OSError):
            raise cannot_write(out, error) from error
        raise


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
    tried = "; ".join(f"{identity.path} ({identity.id})" for identity in identities.keys)
    would = "; ".join(str(recipient) for recipient in verified.header.recipients)
    return RelforgeError(
        "none of the private keys opens the bundle"
        if tried
        else "there is no private key to open the bundle with",
        code=ExitCode.SOURCE,
        where=str(verified.path),
        why=f"tried: {tried or 'nothing'}; it is sealed for: {would}",
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


def _read_index(archive: tarstream.Reader, verified: VerifiedHeader) -> BundleIndex:
    path = verified.path
    try:
        index = BundleIndex.model_validate_json(archive.first(INDEX, _LARGEST_INDEX))
    except ValidationError as error:
        raise altered(path, f"its index is not valid: {error.errors()[0]['msg']}") from error
    names = [patch.name for patch in index.patches]
    wrong = [why for why in map(check_patch_name, names) if why]
    if wrong or len(set(names)) != len(names) or not names:
        raise altered(path, wrong[0] if wrong else "a patch is named twice in it, or none at all")
    if content_sha256(index.patches) != verified.header.content_sha256:
        raise altered(path, "its patches or their order are not those that were signed")
    return index


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
