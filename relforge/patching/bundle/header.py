"""The cleartext, signed header of a bundle (format version 1; docs/bundle-format.md).

A bundle is one file: the magic line, the envelope's length (4 bytes, big-endian), a DSSE envelope
whose payload is the header, and the age ciphertext. Reading the header needs no decryption key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from relforge.frozen import Frozen, canonical_json
from relforge.manifest.common import Commit, DeviceName, Name, Sha256, TreeHash
from relforge.manifest.source import ArchiveSource, GitSource, SourceSpec, WheelSource
from relforge.patching.keys import RecipientId
from relforge.patching.source import PatchSetInfo, Ships

MAGIC = b"relforge-bundle/1\n"
PAYLOAD_TYPE = "application/vnd.relforge.bundle.v1+json"
_FAMILY = b"relforge-bundle/"
_LARGEST_ENVELOPE = 1 << 20

UtcTime = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]


class GitOrigin(Frozen):
    """A git source, as the header names it."""

    kind: Literal["git"] = "git"
    url: str
    commit: Commit
    subdirectory: str | None = None


class PackageOrigin(Frozen):
    """A source distribution or wheel, as the header names it."""

    kind: Literal["archive", "wheel"]
    package: str
    version: str
    sha256: Sha256


Origin = Annotated[GitOrigin | PackageOrigin, Field(discriminator="kind")]


def origin_of(spec: SourceSpec) -> GitOrigin | PackageOrigin:
    """A manifest's source in the form that the bundle format fixes."""
    match spec:
        case GitSource():
            return GitOrigin(url=spec.url, commit=spec.commit, subdirectory=spec.subdirectory)
        case ArchiveSource() | WheelSource():
            return PackageOrigin(
                kind=spec.kind, package=spec.package, version=spec.version, sha256=spec.sha256
            )


class BundleSource(Frozen):
    """The source that the patches are for: its name in the manifest, and what it is."""

    name: Name
    origin: Origin


class Ciphertext(Frozen):
    """The encrypted part: everything behind the envelope."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1)]


class Header(Frozen):
    """What a bundle says of itself in the clear, under its signature."""

    format: Literal["relforge-bundle"] = "relforge-bundle"
    version: Literal[1] = 1
    name: Name
    source: BundleSource
    base_commit: Commit | None
    """The full commit for a git source; ``None`` for an archive or wheel."""
    base_tree: TreeHash
    device: DeviceName | None
    """``None``: for every device."""
    recipients: tuple[RecipientId, ...]
    ciphertext: Ciphertext
    content_sha256: Sha256
    result_tree: TreeHash
    ships: Ships
    creator: str
    created_utc: UtcTime
    annotations: dict[str, str] = {}


@dataclass(frozen=True)
class VerifiedHeader:
    """A header, where it was read, and who vouches for it (``None``: nobody, and that was allowed).

    The ciphertext itself is not read for this; only its size is checked.
    """

    path: Path
    header: Header
    signer: str | None
    signer_keyid: str | None
    ciphertext_offset: int

    @property
    def info(self) -> PatchSetInfo:
        """The same, as any patch set says it."""
        header = self.header
        return PatchSetInfo(
            name=header.name,
            content_sha256=header.content_sha256,
            sealed=True,
            source=header.source.name,
            base_commit=header.base_commit,
            base_tree=header.base_tree,
            result_tree=header.result_tree,
            device=header.device,
            ships=header.ships,
            signer=self.signer,
            signer_keyid=self.signer_keyid,
        )


def read_header(
    path: Path, trusted: Sequence[dsse.TrustedSigner], *, allow_unsigned: bool = False
) -> VerifiedHeader:
    """Reads and verifies a bundle's header; no decryption key is needed.

    With ``allow_unsigned`` an unsigned bundle, or one of a signer nobody here trusts, is read too;
    a signature of a trusted key that does not match never is. Raises RelforgeError (SOURCE).
    """
    with open_file(path) as handle:
        return parse_header(handle, path, trusted, allow_unsigned=allow_unsigned)


def parse_header(
    handle: IO[bytes],
    path: Path,
    trusted: Sequence[dsse.TrustedSigner],
    *,
    allow_unsigned: bool = False,
) -> VerifiedHeader:
    """As ``read_header``, on an open file; leaves it at the start of the ciphertext."""
    envelope = _read_envelope(handle, path)
    signer: dsse.TrustedSigner | None = None
    try:
        signer = dsse.verify(envelope, trusted, payload_type=PAYLOAD_TYPE, where=str(path)).signer
    except dsse.UnknownSigner as error:
        if not allow_unsigned:
            raise _untrusted(error, path) from error
    header = _parse_payload(envelope.payload, path)
    offset = handle.tell()
    size = os.fstat(handle.fileno()).st_size - offset
    if size != header.ciphertext.size_bytes:
        kind = "cut short" if size < header.ciphertext.size_bytes else "longer than it was made"
        raise altered(
            path, f"it is {kind}: {size} bytes of ciphertext, not {header.ciphertext.size_bytes}"
        )
    return VerifiedHeader(
        path, header, signer.name if signer else None, signer.keyid if signer else None, offset
    )


def header_bytes(header: Header, signing_key: dsse.PrivateKey | None) -> bytes:
    """Everything that stands before the ciphertext."""
    payload = canonical_json(header)
    envelope = (
        dsse.sign(PAYLOAD_TYPE, payload, signing_key)
        if signing_key
        else dsse.Envelope(PAYLOAD_TYPE, payload, ())
    ).to_json()
    if len(envelope) > _LARGEST_ENVELOPE:
        raise RelforgeError(
            "the bundle's header is too large",
            code=ExitCode.SOURCE,
            why=f"{len(envelope)} bytes; at most {_LARGEST_ENVELOPE} are allowed",
            hint="use fewer recipients or shorter annotations",
        )
    return MAGIC + len(envelope).to_bytes(4, "big") + envelope


def open_file(path: Path) -> IO[bytes]:
    """Opens a bundle for reading. Raises RelforgeError (SOURCE)."""
    try:
        return path.open("rb")
    except OSError as error:
        raise RelforgeError(
            "the bundle cannot be read",
            code=ExitCode.SOURCE,
            where=str(path),
            why=error.strerror or str(error),
            hint="check the path",
        ) from error


def altered(path: Path, why: str) -> RelforgeError:
    """The error for a bundle that is not as its maker left it."""
    return RelforgeError(
        "the bundle is damaged or was altered",
        code=ExitCode.SOURCE,
        where=str(path),
        why=why,
        hint="get the file again from whoever made it",
    )


def _read_envelope(handle: IO[bytes], path: Path) -> dsse.Envelope:
    start = handle.read(len(MAGIC))
    if start != MAGIC:
        raise _wrong_magic(start, path)
    length = int.from_bytes(handle.read(4), "big")
    if not 0 < length <= _LARGEST_ENVELOPE:
        raise altered(path, f"the length of its envelope, {length}, is impossible")
    raw = handle.read(length)
    if len(raw) != length:
        raise altered(path, "it ends inside its header")
    envelope = dsse.parse(raw, where=str(path))
    if envelope.to_json() != raw:
        raise altered(path, "its envelope is not in canonical form")
    if len(envelope.signatures) > 1:
        raise altered(path, "it carries more than one signature")
    return envelope


def _parse_payload(payload: bytes, path: Path) -> Header:
    try:
        header = Header.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise altered(path, f"its header is not valid: {field}: {first['msg']}") from error
    if canonical_json(header) != payload:
        raise altered(path, "its header is not in canonical form")
    return header


def _wrong_magic(start: bytes, path: Path) -> RelforgeError:
    version = start[len(_FAMILY) :].split(b"\n")[0]
    if start.startswith(_FAMILY) and version.isdigit() and int(version) > 1:
        return RelforgeError(
            "the bundle was made by a newer relforge",
            code=ExitCode.SOURCE,
            where=str(path),
            why=f"it has format version {int(version)}; this relforge reads version 1",
            hint="update relforge",
        )
    return RelforgeError(
        "this is no bundle, or its first bytes were altered",
        code=ExitCode.SOURCE,
        where=str(path),
        why=f"it does not begin with {MAGIC.decode().strip()!r}",
        hint="name a .bundle file, or a folder with a series file",
    )


def _untrusted(error: dsse.UnknownSigner, path: Path) -> RelforgeError:
    if not error.keyids:
        return RelforgeError(
            "the bundle is not signed",
            code=ExitCode.SOURCE,
            where=str(path),
            why="only signed bundles are opened: a signature says whose the patches are",
            hint="ask its maker for a signed one; to open it all the same: --allow-unsigned",
        )
    keyid = error.keyids[0]
    return RelforgeError(
        "the bundle is signed by somebody who is not trusted here",
        code=ExitCode.SOURCE,
        where=str(path),
        why=f"it was signed with key id {keyid}",
        hint=(
            "if that is the maker's key id, save the maker's public key (PEM) and add it to "
            "`trusted_keys` in the site configuration: {name: NAME, public_key: FILE}; to open it "
            "all the same, once: --allow-unsigned"
        ),
    )
