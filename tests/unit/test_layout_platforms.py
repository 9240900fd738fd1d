"""One layout with an image for several architectures: its index is what the digest is of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from relforge.engine.blobs import blob_path
from relforge.engine.layout import copy_layout, describe, normalise, verify
from relforge.errors import RelforgeError
from relforge.frozen import canonical_json
from relforge.oci.store import OCI_INDEX, Descriptor
from tests.support.published import make_image


def two_platforms(folder: Path) -> Path:
    """A layout whose image has an index of two, by hand."""
    layouts = []
    for number, word in enumerate((b"one", b"other")):
        layout = folder / f"single-{number}"
        make_image(layout, layers=({"word": word},), labels={"word": word.decode()})
        layouts.append(layout)
    whole = folder / "whole"
    shutil.copytree(layouts[0], whole)
    for blob in (layouts[1] / "blobs" / "sha256").iterdir():
        shutil.copy(blob, whole / "blobs" / "sha256" / blob.name)
    entries = [json.loads((one / "index.json").read_bytes())["manifests"][0] for one in layouts]
    data = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    root = Descriptor.of(OCI_INDEX, data)
    blob_path(whole, root.digest).write_bytes(data)
    (whole / "index.json").write_bytes(
        canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [root.to_json()]})
    )
    return whole


def test_the_digest_is_the_index(tmp_path: Path) -> None:
    layout = two_platforms(tmp_path)
    first, second = (describe(tmp_path / f"single-{n}") for n in range(2))
    facts = verify(layout)
    assert facts.digest not in (first.digest, second.digest)
    assert facts.own is not None
    assert (facts.own.digest, facts.own.size) == (first.digest, first.manifest_bytes)
    assert facts.alone == first
    assert facts.each == (first, second)
    assert (facts.config_digest, facts.layers) == (first.config_digest, first.layers)
    assert facts.others == (second,)
    assert facts.platforms == ("linux/amd64", "linux/amd64")
    assert set(facts.blobs) == {facts.digest, *first.blobs, *second.blobs}
    assert facts.blobs[first.config_digest] == first.blobs[first.config_digest]


def test_a_copy_has_every_architecture(tmp_path: Path) -> None:
    layout = two_platforms(tmp_path)
    normalise(layout)
    facts = copy_layout(layout, tmp_path / "copy", ref_name="relforge/both:1")
    assert verify(tmp_path / "copy") == facts
    (entry,) = json.loads((tmp_path / "copy" / "index.json").read_bytes())["manifests"]
    assert entry["mediaType"] == OCI_INDEX
    assert "platform" not in entry


def test_an_altered_layer_of_the_other_architecture_is_found(tmp_path: Path) -> None:
    layout = two_platforms(tmp_path)
    other = describe(layout).others[0].layers[0].digest
    path = blob_path(layout, other)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RelforgeError) as caught:
        verify(layout)
    assert other in (caught.value.why or "")


def test_an_index_of_nothing_is_no_image(tmp_path: Path) -> None:
    layout = two_platforms(tmp_path)
    data = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    root = Descriptor.of(OCI_INDEX, data)
    blob_path(layout, root.digest).write_bytes(data)
    (layout / "index.json").write_bytes(
        canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [root.to_json()]})
    )
    with pytest.raises(RelforgeError, match="damaged") as caught:
        describe(layout)
    assert "names no images" in (caught.value.why or "")
