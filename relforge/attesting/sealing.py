"""The last statement about a release: made when its record is written, signed by its maker's key.

It names ``release.json``, ``contents.json`` and every file that the latter lists by SHA-256, so
that cards and record are covered by a signature, too. Record, cards and evidence are attached to
the image with it, as one artifact.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relforge import __version__
from relforge.attesting.attaching import image_of
from relforge.attesting.attachments import COSIGN_ATTESTATIONS, RELEASE
from relforge.attesting.manifests import (
    CREATED,
    PREDICATE_TYPE,
    TITLE,
    envelope_layer,
    envelopes_attachment,
    release_attachment,
)
from relforge.attesting.predicates import RELEASE as RELEASE_STATEMENT
from relforge.attesting.signing import SigningKey
from relforge.attesting.statements import Statement
from relforge.attesting.verifying import verify_envelope
from relforge.engine.attached import Attachment, load_attached, write_attached
from relforge.engine.blobs import blob_path
from relforge.engine.layout import describe
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from relforge.evidence.dsse import Envelope, PublicKey, TrustedSigner
from relforge.files import sha256_file, write_atomic
from relforge.frozen import sha256_hex
from relforge.oci.store import Descriptor
from relforge.publishing.published import CONTENTS, IMAGE, RECORD, SEAL

SERIAL = "org.relforge.serial"
_TEXTS = (".md",)
"""People edit cards where they lie: what is attached is no link to them."""


def is_sealed(folder: Path, signer: PublicKey | None) -> bool:
    """Whether record and contents are those that are attached and, with a signer, that are signed.

    Reads small files alone. Never raises for what is wrong with the folder.
    """
    try:
        record, contents = _pair(folder)
        layout = folder / IMAGE
        image = describe(layout, code=ExitCode.PUBLISH).digest
        attachments, _ = _of_this(image, load_attached(layout))
        attached = {
            layer.annotations.get(TITLE): layer.digest
            for one in attachments
            if one.manifest.descriptor.artifact_type == RELEASE
            for layer in _layers(one)
        }
        wanted = {RECORD: f"sha256:{record}", CONTENTS: f"sha256:{contents}"}
        if any(attached.get(name) != digest for name, digest in wanted.items()):
            return False
        found = _envelope(layout, attachments)
        if signer is None or found is None:
            return signer is None and found is None and not (folder / SEAL).exists()
        said = verify_envelope(found, image, [TrustedSigner("maker", signer)]).statement.predicate
        covered = {said[key]["name"]: said[key]["digest"] for key in ("record", "contents")}
        return (
            covered
            == {
                RECORD: {"sha256": record},
                CONTENTS: {"sha256": contents},
            }
            and (folder / SEAL).read_bytes() == found.to_json()
        )
    except (OSError, ValueError, KeyError, TypeError, RelforgeError):
        return False


def seal_release(folder: Path, key: SigningKey | None) -> bool:
    """Attaches record, cards and evidence to the published image and, with a key, the signed
    statement about them; returns whether anything had to be written.

    One rename puts the new attachments in the place of the old ones. Raises RelforgeError (PUBLISH)
    when a file is not the one that was published, (ENVIRONMENT) when the folder cannot be written.
    """
    if is_sealed(folder, key.public if key else None):
        return False
    layout = folder / IMAGE
    facts = describe(layout, code=ExitCode.PUBLISH)
    image = image_of(facts)
    files = _checked(folder)
    before, of_parts = _of_this(image.digest, load_attached(layout))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    annotations = {CREATED: created}
    envelope = None
    if key is not None:
        serial = max(time.time_ns() // 10**6, _serial(layout, before) + 1)
        annotations[SERIAL] = str(serial)
        predicate = _predicate(folder, created=created, serial=serial)
        envelope = key.sign_statement(
            Statement(
                name=predicate["release"],
                digest=image.digest,
                predicate_type=RELEASE_STATEMENT,
                predicate=predicate,
            )
        )
    attachments = [
        *_others(before),
        *_attestations(image, before, envelope),
        release_attachment(image, files, annotations),
        *of_parts,
    ]
    write_attached(layout, attachments, keep=set(facts.blobs))
    if envelope is not None:
        write_atomic(folder / SEAL, envelope.to_json())
    else:
        (folder / SEAL).unlink(missing_ok=True)
    return True


def _predicate(folder: Path, *, created: str, serial: int) -> dict[str, Any]:
    """``serial`` grows with every statement about a release: a replayed older one has a smaller
    one. It is milliseconds since 1970, UTC, when it was made."""
    record_sha256, contents_sha256 = _pair(folder)
    record = json.loads((folder / RECORD).read_bytes())
    listed: Mapping[str, str] = json.loads((folder / CONTENTS).read_bytes())["files"]
    return {
        "release": record["release"],
        "created": created,
        "serial": serial,
        "relforge": __version__,
        "lock_sha256": record["lock_sha256"],
        "verdicts": record["verdicts"],
        "record": _described(RECORD, record_sha256),
        "contents": _described(CONTENTS, contents_sha256),
        "files": [_described(name, digest) for name, digest in sorted(listed.items())],
    }


def _described(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def _checked(folder: Path) -> dict[str, bytes | Path]:
    """What is attached: everything but weights, each with the hash that was published."""
    listed: Mapping[str, str] = json.loads((folder / CONTENTS).read_bytes())["files"]
    files: dict[str, bytes | Path] = {
        name: (folder / name).read_bytes() for name in (RECORD, CONTENTS)
    }
    for name, digest in listed.items():
        if name.startswith("weights/"):
            continue
        path = folder / name
        try:
            if path.suffix in _TEXTS:
                data = path.read_bytes()
                found, files[name] = sha256_hex(data), data
            else:
                found, files[name] = sha256_file(path), path
        except OSError as error:
            raise _not_published(path, error.strerror or str(error)) from error
        if found != digest:
            raise _not_published(path, f"its sha256 is {found}, published was {digest}")
    return files


def _of_this(
    image: str, attachments: tuple[Attachment, ...]
) -> tuple[tuple[Attachment, ...], tuple[Attachment, ...]]:
    """Those of the image itself, and those of the images that its index lists."""

    def ours(one: Attachment) -> bool:
        return one.manifest.subject is not None and one.manifest.subject.digest == image

    own = tuple(one for one in attachments if ours(one))
    return own, tuple(one for one in attachments if not ours(one))


def _others(before: tuple[Attachment, ...]) -> Iterator[Attachment]:
    kinds = (RELEASE, COSIGN_ATTESTATIONS)
    return (one for one in before if one.manifest.descriptor.artifact_type not in kinds)


def _attestations(
    image: Descriptor, before: tuple[Attachment, ...], envelope: Envelope | None
) -> Iterator[Attachment]:
    """The earlier statements as they are, and this one in the place of an older one."""
    kept = [
        (layer, one.blobs[layer.digest])
        for one in before
        if one.manifest.descriptor.artifact_type == COSIGN_ATTESTATIONS
        for layer in _layers(one)
        if layer.annotations.get(PREDICATE_TYPE) != RELEASE_STATEMENT
    ]
    if envelope is not None:
        kept.append(envelope_layer(envelope))
    if kept:
        yield envelopes_attachment(image, kept)


def _layers(attachment: Attachment) -> Iterator[Descriptor]:
    yield from map(Descriptor.read, attachment.manifest.value["layers"])


def _envelope(layout: Path, attachments: tuple[Attachment, ...]) -> Envelope | None:
    """The statement about the release that is attached now."""
    for one in attachments:
        for layer in _layers(one):
            if layer.annotations.get(PREDICATE_TYPE) == RELEASE_STATEMENT:
                return dsse.parse(blob_path(layout, layer.digest).read_bytes(), where=str(layout))
    return None


def _serial(layout: Path, attachments: tuple[Attachment, ...]) -> int:
    """Of the statement that is there; 0 where there is none that can be read."""
    try:
        found = _envelope(layout, attachments)
        return int(Statement.parse(found.payload).predicate["serial"]) if found else 0
    except (OSError, ValueError, KeyError, TypeError, RelforgeError):
        return 0


def _pair(folder: Path) -> tuple[str, str]:
    return sha256_file(folder / RECORD), sha256_file(folder / CONTENTS)


def _not_published(path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "a file of the release is not the one that was published",
        code=ExitCode.PUBLISH,
        where=str(path),
        why=why,
        hint="delete the folder and publish again: it is made anew from what was tested",
    )
