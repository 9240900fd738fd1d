"""Sealing: a patch set into a bundle, and a bundle for other recipients (docs/bundle-format.md).

It streams: the memory needed is that of the index, whatever the patches' size. Git, which proves
that the patches apply, is another process with a memory of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import pyrage

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import PrivateKey, TrustedSigner
from relforge.files import cannot_write, sync_folder
from relforge.frozen import Frozen, canonical_json
from relforge.leftovers import owned_file
from relforge.patching.bundle import tarstream
from relforge.patching.bundle.header import BundleSource, Ciphertext, Header, header_bytes
from relforge.patching.bundle.opening import INDEX, BundleIndex, IndexedPatch, OpenedBundle, opened
from relforge.patching.keys import Identities, Recipient
from relforge.patching.series import PlainPatches
from relforge.patching.source import Diff, Ships
from relforge.patching.tree.apply import apply_patches
from relforge.patching.tree.private_keys import refuse_private_keys
from relforge.workarea import UNFINISHED, sweep_unfinished, work_area

_CHUNK = 1 << 18


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
    _refuse_nobody(recipients, out)
    with work_area(home, "seal") as area:
        applied = apply_patches(
            store_git_dir,
            base_tree,
            (Diff(patch.name, patches.chunks(patch)) for patch in patches.patch_set.patches),
            object_dir=area / "objects",
            work=area,
            per_patch=True,
        )
        after = {change.after for changes in applied.per_patch for change in changes}
        refuse_private_keys(applied.git, applied.tree, after)
    rows = zip(patches.patch_set.patches, applied.per_patch, strict=True)
    index = BundleIndex(
        patches=tuple(IndexedPatch(**dict(patch), files=files) for patch, files in rows)
    )

    def header(ciphertext: Ciphertext) -> Header:
        return Header(
            name=patches.patch_set.name,
            source=source,
            base_commit=base_commit,
            base_tree=base_tree,
            device=device,
            recipients=tuple(recipient.id for recipient in recipients),
            ciphertext=ciphertext,
            content_sha256=patches.patch_set.content_sha256,
            result_tree=applied.tree,
            ships=ships,
            creator=creator,
            created_utc=created_utc or _now(),
            annotations=annotations or {},
        )

    with _temporary(out) as (body, whole):
        return _write(
            _tar_chunks(patches, index), recipients, header, signing_key, body, whole, out
        )


def rotate(
    bundle: Path,
    *,
    trusted: Sequence[TrustedSigner],
    identities: Identities,
    recipients: Sequence[Recipient],
    signing_key: PrivateKey | None,
    creator: str,
    out: Path,
    allow_unsigned: bool = False,
    created_utc: str | None = None,
) -> SealedBundle:
    """Seals the content of a bundle anew: other recipients, another signature, the same patches.

    The plaintext, index and all, is byte for byte what it was, and goes from one cipher into the
    other without touching a disk. ``out`` (which may be ``bundle``) is replaced in one step, after
    the old one was verified to its end. Whoever could open the old file still can open the old
    file. Raises RelforgeError (SOURCE) as ``opened`` does, and when there is no recipient.
    """
    _refuse_nobody(recipients, out)
    with (
        _temporary(out) as (body, whole),
        opened(bundle, trusted, identities, allow_unsigned=allow_unsigned) as old,
    ):
        changes = {
            "recipients": tuple(recipient.id for recipient in recipients),
            "creator": creator,
            "created_utc": created_utc or _now(),
        }

        def header(ciphertext: Ciphertext) -> Header:
            return old.verified.header.model_copy(update={**changes, "ciphertext": ciphertext})

        return _write(_same_chunks(old), recipients, header, signing_key, body, whole, out)


def _write(
    plain: Iterable[bytes],
    recipients: Sequence[Recipient],
    header: Callable[[Ciphertext], Header],
    signing_key: PrivateKey | None,
    body: IO[bytes],
    whole: IO[bytes],
    out: Path,
) -> SealedBundle:
    ciphertext = _encrypt(plain, recipients, body)
    made = header(ciphertext)
    writer = _HashingWriter(whole)
    writer.write(header_bytes(made, signing_key))
    body.seek(0)
    shutil.copyfileobj(body, writer, _CHUNK)
    return SealedBundle(
        path=out.absolute(), sha256=writer.hexdigest(), size_bytes=writer.size_bytes, header=made
    )


def _encrypt(
    plain: Iterable[bytes], recipients: Sequence[Recipient], body: IO[bytes]
) -> Ciphertext:
    """Encrypts into ``body``. What goes wrong in reading or writing is raised as it was."""
    failures: list[BaseException] = []

    def watched() -> Iterator[bytes]:
        try:
            yield from plain
        except BaseException as error:
            failures.append(error)
            raise

    writer = _HashingWriter(body, failures)
    try:
        natives = [recipient.native for recipient in recipients]
        pyrage.encrypt_io(tarstream.ChunkReader(watched()), writer, natives)
    except pyrage.EncryptError as error:
        # pyrage keeps only the text of what its reader or writer raised ...
        raise (failures[0] if failures else error) from error
    if failures:
        # ... and nothing at all of what its last flush stumbled over.
        raise failures[0]
    return Ciphertext(sha256=writer.hexdigest(), size_bytes=writer.size_bytes)


def _refuse_nobody(recipients: Sequence[Recipient], out: Path) -> None:
    if not recipients:
        raise RelforgeError(
            "a bundle needs at least one recipient",
            code=ExitCode.SOURCE,
            where=str(out),
            hint="name the public key of whoever shall open it (age1..., ssh-rsa ..., or a file)",
        )


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def _same_chunks(old: OpenedBundle) -> Iterator[bytes]:
    """The plaintext of an open bundle; its errors come before its last chunk."""
    yield tarstream.member_header(INDEX, len(old.raw_index))
    yield old.raw_index
    yield tarstream.padding(len(old.raw_index))
    for patch, chunks in old.patches():
        yield tarstream.member_header(f"patches/{patch.name}", patch.size_bytes)
        yield from chunks
        yield tarstream.padding(patch.size_bytes)
    yield tarstream.end()


class _HashingWriter:
    """Writes through to a file and keeps the hash and size of what went by."""

    def __init__(self, target: IO[bytes], failures: list[BaseException] | None = None) -> None:
        self._target = target
        self._failures = failures
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        try:
            return self._target.write(data)
        except OSError as error:
            if self._failures is not None:
                self._failures.append(error)
            raise

    def flush(self) -> None:
        self._target.flush()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def _temporary(out: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A nameless file for the ciphertext, and the file that becomes ``out`` on success.

    What a killed relforge left there of the latter goes first.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(out.parent)
        descriptor, path = owned_file(out.parent, UNFINISHED)
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        with os.fdopen(descriptor, "wb") as whole:
            with tempfile.TemporaryFile(dir=out.parent) as body:
                yield body, whole
            whole.flush()
            os.fsync(whole.fileno())
            os.fchmod(whole.fileno(), 0o644)
            path.replace(out)  # while it is locked: until then a sweeper must not take it
        sync_folder(out.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise cannot_write(out, error) from error
        raise
