"""An image layout on disk: what is read, and what an altered one gives away."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from relforge.engine.layout import copy_layout, describe, normalise, to_docker_archive, verify
from relforge.errors import ExitCode, RelforgeError
from relforge.publishing.folder import publish_folder


def make_layout(folder: Path, *, word: bytes = b"layer") -> Path:
    """A layout of one image with two layers, written by hand."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    oci = "application/vnd.oci.image."
    layers = [put(word + bytes([n]) * 100, oci + "layer.v1.tar+zstd") for n in (1, 2)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64, "sha256:" + "2" * 64]},
        "history": [
            {"created_by": "FROM"},
            {"created_by": "ENV", "empty_layer": True},
            {"created_by": "RUN"},
        ],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci + "manifest.v1+json",
        "config": put(json.dumps(config).encode(), oci + "config.v1+json"),
        "layers": layers,
    }
    entry = put(json.dumps(manifest).encode(), oci + "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout")


def test_describes_the_image(layout: Path) -> None:
    facts = verify(layout)
    assert facts.architecture == "amd64"
    assert facts.labels == {"a": "b"}
    assert [ly.created_by for ly in facts.layers] == ["FROM", "RUN"]
    assert [ly.size_bytes for ly in facts.layers] == [105, 105]
    files = list((layout / "blobs" / "sha256").iterdir())
    assert facts.size_bytes == sum(path.stat().st_size for path in files)
    assert {f"sha256:{path.name}": path.stat().st_size for path in files} == facts.blobs


@pytest.mark.parametrize("which", range(4))
def test_one_flipped_bit_in_any_blob_is_found_and_named(layout: Path, which: int) -> None:
    digest = sorted(describe(layout).blobs)[which]
    path = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RelforgeError) as caught:
        verify(layout, code=ExitCode.PUBLISH)
    assert caught.value.code is ExitCode.PUBLISH
    assert caught.value.where == str(layout)
    assert digest in (caught.value.why or "")


@pytest.mark.parametrize("how", ["missing", "shorter"])
def test_a_damaged_layer_is_found_without_hashing(layout: Path, how: str) -> None:
    layer = describe(layout).layers[1].digest
    path = layout / "blobs" / "sha256" / layer.removeprefix("sha256:")
    path.unlink() if how == "missing" else path.write_bytes(b"x")
    with pytest.raises(RelforgeError, match="damaged") as caught:
        describe(layout)
    assert layer in (caught.value.why or "")


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "cannot be read"), ("[]", "not a JSON object"), ('{"manifests":[]}', "0 entries")],
)
def test_an_index_that_is_none(layout: Path, text: str, why: str) -> None:
    (layout / "index.json").write_text(text)
    with pytest.raises(RelforgeError) as caught:
        describe(layout)
    assert caught.value.code is ExitCode.BUILD
    assert why in (caught.value.why or "")


def test_normalising_drops_what_is_not_of_the_image(layout: Path, tmp_path: Path) -> None:
    other = make_layout(tmp_path / "other")
    (layout / "ingest").mkdir()
    (layout / "blobs" / "sha256" / ("f" * 64)).write_bytes(b"stray")
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.created": "now"}
    (layout / "index.json").write_text(json.dumps(index))
    assert normalise(layout) == normalise(other)
    assert _files(layout) == _files(other)


def test_a_copy_is_whole_and_shares_the_blobs(layout: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "copy"
    facts = copy_layout(layout, target, ref_name="v1")
    assert verify(target) == facts
    blob = next((target / "blobs" / "sha256").iterdir())
    assert blob.stat().st_nlink == 2
    index = json.loads((target / "index.json").read_text())
    annotations = index["manifests"][0]["annotations"]
    assert annotations == {"org.opencontainers.image.ref.name": "v1"}
    copy_layout(make_layout(tmp_path / "new", word=b"other"), target)
    assert describe(target).digest != facts.digest
    assert [p.name for p in target.parent.iterdir()] == ["copy"]


def test_the_docker_archive_names_the_image_for_both_stores(layout: Path) -> None:
    stream = io.BytesIO()
    facts = to_docker_archive(layout, "relforge/x:v1", stream)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        content = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    docker = json.loads(content["manifest.json"])[0]
    assert docker["RepoTags"] == ["relforge/x:v1"]
    assert f"sha256:{hashlib.sha256(content[docker['Config']]).hexdigest()}" == facts.config_digest
    assert [len(content[name]) for name in docker["Layers"]] == [105, 105]
    named = json.loads(content["index.json"])["manifests"][0]["annotations"]
    assert named["io.containerd.image.name"] == "docker.io/relforge/x:v1"


def test_publishing_a_folder_is_whole_and_idempotent(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "outcomes.json").write_text("{}")
    target = tmp_path / "dist" / "hello"

    def publish(card: str) -> bool:
        (tmp_path / "card.md").write_text(card)
        return publish_folder(
            layout,
            cards={"README.md": tmp_path / "card.md"},
            evidence={"evaluate/outcomes.json": tmp_path / "outcomes.json"},
            weights={"model.safetensors": tmp_path / "outcomes.json"},
            record=b"{}",
            target=target,
            tag="v1",
        ).written

    assert publish("# Card\n")
    assert sorted(_files(target)) == sorted(
        [
            "README.md",
            "contents.json",
            "release.json",
            "evidence/evaluate/outcomes.json",
            "weights/model.safetensors",
        ]
        + [f"image/{name}" for name in (*_files(layout),)]
    )
    verify(target / "image")
    inode = target.stat().st_ino
    assert not publish("# Card\n")
    assert target.stat().st_ino == inode
    (target / "README.md").write_text("# Edited\n")
    assert publish("# Card\n")
    assert publish("# New\n")
    assert (target / "README.md").read_text() == "# New\n"
    assert [p.name for p in target.parent.iterdir()] == ["hello"]


def test_a_strangers_folder_is_not_replaced(layout: Path, tmp_path: Path) -> None:
    target = tmp_path / "dist"
    target.mkdir()
    (target / "theirs.txt").write_text("keep")
    with pytest.raises(RelforgeError) as caught:
        publish_folder(
            layout, cards={}, evidence={}, weights={}, record=None, target=target, tag="v1"
        )
    assert caught.value.code is ExitCode.PUBLISH
    assert (target / "theirs.txt").read_text() == "keep"


def test_an_altered_layer_is_not_published(layout: Path, tmp_path: Path) -> None:
    layer = describe(layout).layers[0].digest
    path = layout / "blobs" / "sha256" / layer.removeprefix("sha256:")
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(RelforgeError) as caught:
        publish_folder(
            layout,
            cards={},
            evidence={},
            weights={},
            record=None,
            target=tmp_path / "dist" / "x",
            tag="v1",
        )
    assert caught.value.code is ExitCode.PUBLISH
    assert layer in (caught.value.why or "")
    assert not (tmp_path / "dist" / "x").exists()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
