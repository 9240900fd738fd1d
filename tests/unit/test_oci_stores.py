"""Layout folders and tars as stores: what they hold, what they refuse, what a fault leaves."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import IO

import pytest

from relforge.attesting.attachments import ATTACHMENTS, signature_tag
from relforge.engine.attached import read_attached
from relforge.engine.layout import describe, verify
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.copying import copy, survey
from relforge.oci.layout_format import write_archive
from relforge.oci.layout_store import LayoutStore, UnchangingLayout
from relforge.oci.store import OCI_INDEX, Descriptor
from relforge.oci.tar_store import TarStore
from tests.support.images import attachment, image, index, signed_image

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def test_a_layout_with_attachments_is_what_the_engine_reads(tmp_path: Path) -> None:
    digest, attached = signed_image(tmp_path / "image", b"x")
    copy(LayoutStore(tmp_path / "image"), LayoutStore(tmp_path / "copy"), digest, tag="a/b:v1")
    facts = verify(tmp_path / "copy")
    assert facts.digest == digest
    found = read_attached(tmp_path / "copy")
    assert {one.digest for one in found.manifests} == set(attached)
    entries = json.loads((tmp_path / "copy/index.json").read_bytes())["manifests"]
    assert [entry.get("artifactType") for entry in entries] == [None, ATTACHMENTS]
    names = {p.name for p in (tmp_path / "copy/blobs/sha256").iterdir()}
    assert names == {d.removeprefix("sha256:") for d in {**facts.blobs, **found.blobs}}


def test_attaching_again_leaves_no_old_index(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"x")
    for word in (b"one", b"two", b"three"):
        attachment(tmp_path / "image", digest, word)
    store = LayoutStore(tmp_path / "image")
    assert len(store.referrers(digest)) == 3
    indexes = [
        path
        for path in (tmp_path / "image/blobs/sha256").iterdir()
        if ATTACHMENTS.encode() in path.read_bytes()
    ]
    assert len(indexes) == 1


def test_a_tag_of_attachments_has_one_owner(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"x")
    tag = signature_tag(digest)
    attachment(tmp_path / "image", digest, b"old", tag=tag)
    newer = attachment(tmp_path / "image", digest, b"new", tag=tag)
    store = LayoutStore(tmp_path / "image")
    assert [one.digest for one in store.referrers(digest)] == [newer.descriptor.digest]
    found = store.manifest(tag)
    assert found is not None
    assert found.descriptor.digest == newer.descriptor.digest


def test_attachments_that_other_programs_list_in_the_index_itself(tmp_path: Path) -> None:
    """As oras writes them: entries without a name, with a subject."""
    digest, attached = signed_image(tmp_path / "image", b"x")
    path = tmp_path / "image/index.json"
    value = json.loads(path.read_bytes())
    nested = next(e for e in value["manifests"] if e.get("artifactType") == ATTACHMENTS)
    inner = tmp_path / "image/blobs" / nested["digest"].replace(":", "/")
    value["manifests"].remove(nested)
    value["manifests"] += json.loads(inner.read_bytes())["manifests"]
    path.write_text(json.dumps(value))
    store = LayoutStore(tmp_path / "image")
    assert {one.digest for one in store.referrers(digest)} == set(attached)
    assert [one.digest for _, one in store.roots()] == [digest]


def test_several_tags_and_one_that_moves(tmp_path: Path) -> None:
    one = image(tmp_path / "image", b"one", tag="v1")
    two = image(tmp_path / "image", b"two", tag="v2")
    store = LayoutStore(tmp_path / "image")
    assert store.tags() == ("v1", "v2")
    found = store.manifest(two)
    assert found is not None
    store.put_manifest(found, tag="v1")
    moved = store.manifest("v1")
    assert moved is not None
    assert moved.descriptor.digest == two
    assert store.manifest(one) is not None
    store.delete_tag("v1")
    store.delete_tag("never was")
    assert store.tags() == ("v2",)


def test_an_altered_blob_is_not_handed_out(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"x" * 3000)
    layer = describe(tmp_path / "image").layers[0]
    path = tmp_path / "image/blobs" / layer.digest.replace(":", "/")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(RelforgeError, match="not what its digest says"):
        copy(LayoutStore(tmp_path / "image"), LayoutStore(tmp_path / "copy"), digest, tag="v1")
    assert LayoutStore(tmp_path / "copy").tags() == ()
    with pytest.raises(RelforgeError, match="not what its digest says"):
        copy(LayoutStore(tmp_path / "image"), TarStore(tmp_path / "copy.tar"), digest, tag="v1")
    assert not (tmp_path / "copy.tar").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["manifest", "config"])
def test_a_missing_part_stops_before_the_tag(tmp_path: Path, kind: str) -> None:
    digest = image(tmp_path / "image", b"x")
    gone = digest if kind == "manifest" else describe(tmp_path / "image").config_digest
    (tmp_path / "image/blobs" / gone.replace(":", "/")).unlink()
    with pytest.raises(RelforgeError) as caught:
        copy(LayoutStore(tmp_path / "image"), LayoutStore(tmp_path / "copy"), digest, tag="v1")
    assert caught.value.code is ExitCode.PUBLISH
    assert LayoutStore(tmp_path / "copy").tags() == ()


def test_a_manifest_before_its_content_is_refused(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"x")
    found = LayoutStore(tmp_path / "image").manifest(digest)
    assert found is not None
    with pytest.raises(RelforgeError, match="not what its digest says"):
        LayoutStore(tmp_path / "copy").put_manifest(found, tag="v1")
    assert not (tmp_path / "copy/index.json").exists()


def test_half_a_blob_of_another_program_is_written_anew(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"x" * 5000)
    layer = describe(tmp_path / "image").layers[0]
    half = tmp_path / "copy/blobs" / layer.digest.replace(":", "/")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    copy(LayoutStore(tmp_path / "image"), LayoutStore(tmp_path / "copy"), digest, tag="v1")
    assert verify(tmp_path / "copy").digest == digest


def test_the_same_tar_whichever_way(tmp_path: Path) -> None:
    digest, _ = signed_image(tmp_path / "image", b"x", b"y")
    src = LayoutStore(tmp_path / "image")
    copy(src, TarStore(tmp_path / "a.tar"), digest, tag="a/b:v1")
    copy(src, TarStore(tmp_path / "b.tar"), digest, attachments=False)
    copy(src, TarStore(tmp_path / "b.tar"), digest, tag="a/b:v1")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = tar.getmembers()
        docker = json.loads((tar.extractfile("manifest.json") or io.BytesIO()).read())
    assert {member.mtime for member in members} == {0}
    assert [row["RepoTags"] for row in docker] == [["a/b:v1"]]
    blobs = [member.name for member in members if member.name.startswith("blobs/")]
    assert blobs == sorted(blobs)


def test_a_tar_that_holds_it_all_is_not_written(tmp_path: Path) -> None:
    digest, _ = signed_image(tmp_path / "image", b"x")
    src = LayoutStore(tmp_path / "image")
    copy(src, TarStore(tmp_path / "a.tar"), digest, tag="v1")
    before = (tmp_path / "a.tar").stat()
    assert survey(src, TarStore(tmp_path / "a.tar"), digest, tag="v1").nothing
    assert copy(src, TarStore(tmp_path / "a.tar"), digest, tag="v1").nothing
    after = (tmp_path / "a.tar").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_source_that_gives_little_at_a_time_fills_a_tar(tmp_path: Path) -> None:
    """As a network does."""
    data = b"y" * 100_000
    descriptor = Descriptor.of(LAYER, data)
    sink = io.BytesIO()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 999) if size and size > 0 else 999)

    write_archive(sink, [], [], {descriptor.digest: (len(data), lambda: Slow(data))})
    sink.seek(0)
    with tarfile.open(fileobj=sink) as tar:
        found = tar.extractfile(f"blobs/{descriptor.digest.replace(':', '/')}")
        assert found is not None
        assert found.read() == data


def test_an_index_in_a_tar_has_all_platforms(tmp_path: Path) -> None:
    amd = image(tmp_path / "image", b"amd", tag=None)
    arm = image(tmp_path / "image", b"arm", tag=None, architecture="arm64")
    both = index(tmp_path / "image", amd, arm)
    copy(LayoutStore(tmp_path / "image"), TarStore(tmp_path / "a.tar"), both, tag="v1")
    tar = TarStore(tmp_path / "a.tar")
    assert [(tag, one.digest) for tag, one in tar.roots()] == [("v1", both)]
    for digest in (amd, arm):
        assert tar.manifest(digest) is not None


@pytest.mark.parametrize("content", [b"", b"no tar at all", None])
def test_what_is_no_layout_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.tar"
    if content is None:
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("repositories"))
    else:
        path.write_bytes(content)
    with pytest.raises(RelforgeError) as caught:
        TarStore(path).tags()
    assert caught.value.code is ExitCode.PUBLISH
    assert caught.value.where == str(path)


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    image(tmp_path / "image", b"x")
    (tmp_path / "image/index.json").write_text("{")
    with pytest.raises(RelforgeError, match="no whole OCI layout"):
        LayoutStore(tmp_path / "image").tags()


def test_a_source_that_fails_half_way_leaves_no_blob(tmp_path: Path) -> None:
    data = b"z" * (3 << 20)
    descriptor = Descriptor.of(LAYER, data)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 1 << 20:
                raise ConnectionResetError("the source went away")
            return super().read(size)

    def opened() -> IO[bytes]:
        return Failing(data)

    with pytest.raises(RelforgeError):
        LayoutStore(tmp_path / "copy").put_blob(descriptor, opened)
    assert list((tmp_path / "copy/blobs/sha256").iterdir()) == []


def test_a_nested_index_is_followed(tmp_path: Path) -> None:
    inner = index(tmp_path / "image", image(tmp_path / "image", b"x", tag=None), tag=None)
    store = LayoutStore(tmp_path / "image")
    found = store.manifest(inner)
    assert found is not None
    assert found.descriptor.media_type == OCI_INDEX
    copy(store, LayoutStore(tmp_path / "copy"), inner, tag="v1")
    assert LayoutStore(tmp_path / "copy").tags() == ("v1",)


def test_a_layout_that_does_not_change_is_read_once_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, attached = signed_image(tmp_path / "image", b"x")
    layout = UnchangingLayout(tmp_path / "image")
    tags = layout.tags()
    found = {one.digest for one in layout.referrers(digest)}
    assert found == set(attached)
    manifest = layout.manifest(digest)
    assert manifest is not None
    with monkeypatch.context() as patched:
        patched.setattr(LayoutStore, "open_blob", None)  # nothing is opened again
        assert {one.digest for one in layout.referrers(digest)} == found
    with pytest.raises(TypeError, match="is not to change"):
        layout.put_manifest(manifest, tag="v2")
    with pytest.raises(TypeError, match="is not to change"):
        layout.attach(manifest)
    assert LayoutStore(tmp_path / "image").tags() == tags
