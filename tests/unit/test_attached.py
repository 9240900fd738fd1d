"""What is attached to the image of a layout: written whole, read back, checked like the image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relforge.attesting.attachments import RELEASE, TAG
from relforge.engine.attached import Attachment, read_attached, write_attached
from relforge.engine.blobs import blob_path
from relforge.engine.layout import copy_layout, describe, verify
from relforge.errors import RelforgeError
from relforge.oci.store import EMPTY_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from tests.unit.test_layout import make_layout
from tests.unit.test_layout_platforms import two_platforms


def attachment(layout: Path, data: bytes, *, tag: str | None = None) -> Attachment:
    facts = describe(layout)
    subject = {
        "mediaType": facts.media_type,
        "digest": facts.digest,
        "size": facts.manifest_bytes,
    }
    config = Descriptor.of(EMPTY_CONFIG, b"{}")
    layer = Descriptor.of("text/plain", data)
    manifest = Manifest.make(
        OCI_MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": RELEASE,
            "config": config.to_json(),
            "layers": [layer.to_json()],
            "subject": subject,
        },
    )
    return Attachment(manifest, {config.digest: b"{}", layer.digest: data}, tag)


def attach(layout: Path, *attachments: Attachment) -> None:
    write_attached(layout, attachments, keep=set(describe(layout).blobs))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout")


def test_the_image_stays_what_it_was_and_comes_first(layout: Path) -> None:
    before = describe(layout)
    one, other = attachment(layout, b"one", tag="sha256-1.sig"), attachment(layout, b"other")
    attach(layout, one, other)
    assert verify(layout) == before
    entries = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert [entry["mediaType"] for entry in entries] == [before.media_type, OCI_INDEX]
    found = read_attached(layout)
    assert [m.digest for m in found.manifests] == [
        one.manifest.descriptor.digest,
        other.manifest.descriptor.digest,
    ]
    assert [m.annotations.get(TAG) for m in found.manifests] == ["sha256-1.sig", None]
    assert all(m.artifact_type == RELEASE for m in found.manifests)


def test_writing_the_same_again_touches_nothing(layout: Path) -> None:
    one = attachment(layout, b"one")
    attach(layout, one)
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    attach(layout, one)
    assert {path: path.stat().st_mtime_ns for path in layout.rglob("*")} == before


def test_what_is_no_longer_attached_is_gone_and_the_image_is_not(layout: Path) -> None:
    attach(layout, attachment(layout, b"one"))
    attach(layout, attachment(layout, b"other"))
    held = {f"sha256:{path.name}" for path in (layout / "blobs" / "sha256").iterdir()}
    assert held == {*describe(layout).blobs, *read_attached(layout).blobs}
    attach(layout)
    assert read_attached(layout).index is None
    assert {p.name for p in (layout / "blobs" / "sha256").iterdir()} == {
        digest.removeprefix("sha256:") for digest in verify(layout).blobs
    }


def test_every_attached_blob_is_checked(layout: Path) -> None:
    attach(layout, attachment(layout, b"a word"))
    for digest in read_attached(layout).blobs:
        path = blob_path(layout, digest)
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(RelforgeError) as caught:
            verify(layout)
        assert digest in (caught.value.why or "")
        path.unlink()
        with pytest.raises(RelforgeError, match="damaged"):
            read_attached(layout)
        path.write_bytes(data)
    verify(layout)


def test_an_attachment_of_another_image_is_refused(layout: Path, tmp_path: Path) -> None:
    other = make_layout(tmp_path / "other", word=b"other")
    with pytest.raises(RelforgeError) as caught:
        attach(layout, attachment(other, b"one"))
    assert describe(other).digest in (caught.value.why or "")
    assert read_attached(layout).index is None
    assert len(list((layout / "blobs" / "sha256").iterdir())) == 4


def test_a_copy_of_the_image_has_none(layout: Path, tmp_path: Path) -> None:
    attach(layout, attachment(layout, b"one"))
    copy_layout(layout, tmp_path / "copy")
    assert read_attached(tmp_path / "copy").index is None
    assert verify(tmp_path / "copy") == describe(layout)


@pytest.mark.parametrize("where", ["first", "twice", "other"])
def test_an_index_is_in_its_place_or_refused(layout: Path, where: str) -> None:
    attach(layout, attachment(layout, b"one"))
    path = layout / "index.json"
    index = json.loads(path.read_bytes())
    image, attached = index["manifests"]
    plain = {key: value for key, value in attached.items() if key != "artifactType"}
    index["manifests"] = {
        "first": [attached, image],
        "twice": [image, attached, attached],
        "other": [image, plain],
    }[where]
    path.write_text(json.dumps(index))
    with pytest.raises(RelforgeError, match="damaged"):
        describe(layout)


def test_of_an_image_for_several_architectures_the_index_is_the_subject(tmp_path: Path) -> None:
    layout = two_platforms(tmp_path)
    facts = describe(layout)
    attach(layout, attachment(layout, b"one"))
    assert verify(layout) == facts
    (listed,) = read_attached(layout).manifests
    manifest = Manifest(descriptor=listed, data=blob_path(layout, listed.digest).read_bytes())
    assert manifest.subject is not None
    assert (manifest.subject.digest, manifest.subject.media_type) == (facts.digest, OCI_INDEX)
