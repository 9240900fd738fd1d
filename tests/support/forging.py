"""What somebody without the key can do to a published release, with everything fixed up that can
be fixed up without it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relforge.attesting.attachments import (
    COSIGN_ATTESTATIONS,
    COSIGN_SIGNATURE,
    RELEASE,
)
from relforge.attesting.manifests import (
    CREATED,
    attestations_attachment,
    release_attachment,
)
from relforge.engine.attached import Attachment, load_attached, write_attached
from relforge.engine.blobs import blob_path
from relforge.engine.layout import describe
from relforge.evidence import dsse
from relforge.frozen import canonical_json
from relforge.oci.layout_format import is_attachments
from relforge.oci.store import Descriptor
from relforge.publishing.published import CONTENTS, RECORD, SEAL

Envelopes = list[dsse.Envelope]


@dataclass(frozen=True)
class Forger:
    """Alters the release in ``folder``."""

    folder: Path

    @property
    def layout(self) -> Path:
        return self.folder / "image"

    @property
    def image(self) -> Descriptor:
        facts = describe(self.layout)
        return Descriptor(
            media_type=facts.media_type, digest=facts.digest, size=facts.manifest_bytes
        )

    def edit(self, name: str, old: str, new: str) -> None:
        """Replaces text in a file, once or more."""
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.unlink()  # It may be a link to what is attached.
        path.write_text(text.replace(old, new))

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(data)

    def record(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Changes the record."""
        record = json.loads((self.folder / RECORD).read_text())
        change(record)
        self.write(RECORD, json.dumps(record, indent=1).encode() + b"\n")

    def relist(self) -> None:
        """Makes contents.json right for what lies there now."""
        contents = json.loads((self.folder / CONTENTS).read_text())
        contents["files"] = {name: self.sha256(name) for name in contents["files"]}
        contents["image_digest"] = self.image.digest
        self.write(CONTENTS, canonical_json(contents))

    def recorded(self) -> None:
        """Makes the record's list of evidence right for what lies there now."""
        old = json.loads((self.folder / CONTENTS).read_text())["files"]
        renamed = {digest: self.sha256(name) for name, digest in old.items()}

        def change(record: dict[str, Any]) -> None:
            for entries in record["evidence"].values():
                for entry in entries:
                    entry["sha256"] = renamed.get(entry["sha256"], entry["sha256"])
                    entry["file"] = entry["sha256"]

        self.record(change)

    def sha256(self, name: str) -> str:
        return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()

    def reattach(self) -> None:
        """Attaches the files as they are now, in the place of those that were published."""
        listed = json.loads((self.folder / CONTENTS).read_text())["files"]
        names = [RECORD, CONTENTS, *(n for n in listed if not n.startswith("weights/"))]
        files = {n: (self.folder / n).read_bytes() for n in names if (self.folder / n).is_file()}

        def change(found: list[Attachment]) -> list[Attachment]:
            (old,) = (one for one in found if kind_of(one) == RELEASE)
            made = old.manifest.descriptor.annotations[CREATED]
            fresh = release_attachment(self.image, files, {CREATED: made})
            return [fresh if one is old else one for one in found]

        self.attachments(change)

    def attachments(self, change: Callable[[list[Attachment]], list[Attachment]]) -> None:
        """Changes what is attached to the image."""
        found = [
            replace(one, blobs={digest: _bytes(data) for digest, data in one.blobs.items()})
            for one in load_attached(self.layout)
        ]
        write_attached(self.layout, change(found), keep=set(describe(self.layout).blobs))

    def envelopes(self, change: Callable[[Envelopes], Envelopes]) -> None:
        """Changes the statements that are attached, and those that lie beside the evidence not."""

        def through(found: list[Attachment]) -> list[Attachment]:
            kept = [one for one in found if kind_of(one) != COSIGN_ATTESTATIONS]
            changed = change(envelopes_of(found))
            return [*kept, *([attestations_attachment(self.image, changed)] if changed else [])]

        self.attachments(through)

    def drop(self, kind: str) -> None:
        """Removes attachments of a kind."""
        self.attachments(lambda found: [one for one in found if kind_of(one) != kind])

    def unsign(self) -> None:
        """Takes every signature away."""
        self.drop(COSIGN_SIGNATURE)
        self.envelopes(
            lambda found: [dsse.Envelope(one.payload_type, one.payload, ()) for one in found]
        )
        (self.folder / SEAL).unlink(missing_ok=True)

    def put_blob(self, data: bytes) -> str:
        """Writes a blob into the layout; returns its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        blob_path(self.layout, digest).write_bytes(data)
        return digest

    def relabel(self, changes: Mapping[str, str]) -> None:
        """Another config with other labels, and a manifest and an index that name it."""
        index = json.loads((self.layout / "index.json").read_text())
        entry = next(one for one in index["manifests"] if not is_attachments(one))
        manifest = json.loads(blob_path(self.layout, entry["digest"]).read_bytes())
        config = json.loads(blob_path(self.layout, manifest["config"]["digest"]).read_bytes())
        config["config"]["Labels"] |= changes
        for old in (entry["digest"], manifest["config"]["digest"]):
            blob_path(self.layout, old).unlink()
        data = canonical_json(config)
        manifest["config"] |= {"digest": self.put_blob(data), "size": len(data)}
        data = canonical_json(manifest)
        entry |= {"digest": self.put_blob(data), "size": len(data)}
        index["manifests"] = [entry]
        (self.layout / "index.json").write_bytes(canonical_json(index))
        # What was attached is about another image now.
        wanted = {d.removeprefix("sha256:") for d in describe(self.layout).blobs}
        for path in (self.layout / "blobs/sha256").iterdir():
            if path.name not in wanted:
                path.unlink()


def kind_of(attachment: Attachment) -> str | None:
    return attachment.manifest.descriptor.artifact_type


def envelopes_of(found: list[Attachment]) -> Envelopes:
    """The statements that are attached."""
    return [
        dsse.parse(_bytes(one.blobs[layer["digest"]]))
        for one in found
        if kind_of(one) == COSIGN_ATTESTATIONS
        for layer in one.manifest.value["layers"]
    ]


def predicate_type(envelope: dsse.Envelope) -> str:
    found: str = json.loads(envelope.payload)["predicateType"]
    return found


def about(attachment: Attachment, image: Descriptor) -> Attachment:
    """The same, attached to another image."""
    value = {**attachment.manifest.value, "subject": image.plain.to_json()}
    made = attachment.manifest.make(attachment.manifest.descriptor.media_type, value)
    return replace(attachment, manifest=made)


def attached_to(folder: Path) -> list[Attachment]:
    """What is attached to the image of a published folder, with its content."""
    return [
        replace(one, blobs={digest: _bytes(data) for digest, data in one.blobs.items()})
        for one in load_attached(folder / "image")
    ]


def _bytes(data: bytes | Path) -> bytes:
    return data if isinstance(data, bytes) else data.read_bytes()
