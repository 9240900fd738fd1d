"""One image for several platforms, made of images for one each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relforge.engine.layout import describe
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.layout_store import LayoutStore
from relforge.oci.merging import merge, merged_index, platforms_of
from relforge.oci.tar_store import TarStore
from tests.support.images import attachment, image, index


def source(folder: Path, word: bytes, architecture: str) -> tuple[LayoutStore, str]:
    digest = image(folder, word, architecture=architecture)
    return LayoutStore(folder), digest


def test_the_order_does_not_count(tmp_path: Path) -> None:
    amd = source(tmp_path / "amd", b"amd", "amd64")
    arm = source(tmp_path / "arm", b"arm", "arm64")
    one, other = merged_index([amd, arm]), merged_index([arm, amd, amd])
    assert one == other
    assert platforms_of(one) == ("linux/amd64", "linux/arm64")
    merge([amd, arm], LayoutStore(tmp_path / "one"), tag="v1")
    merge([arm, amd], TarStore(tmp_path / "other.tar"), tag="v1")
    assert TarStore(tmp_path / "other.tar").tags() == ("v1",)
    facts = describe(tmp_path / "one")
    assert facts.digest == one.descriptor.digest
    assert facts.platforms == ("linux/amd64", "linux/arm64")
    (entry,) = json.loads((tmp_path / "one/index.json").read_bytes())["manifests"]
    assert entry["digest"] == one.descriptor.digest


def test_an_index_brings_its_images_and_attachments_come_along(tmp_path: Path) -> None:
    amd = image(tmp_path / "two", b"amd", tag=None)
    arm = image(tmp_path / "two", b"arm", tag=None, architecture="arm64")
    both = index(tmp_path / "two", amd, arm)
    made = attachment(tmp_path / "two", amd, b"of amd64")
    third = source(tmp_path / "third", b"riscv", "riscv64")
    dst = LayoutStore(tmp_path / "all")
    report = merge([(LayoutStore(tmp_path / "two"), both), third], dst, tag="v1")
    whole = dst.manifest("v1")
    assert whole is not None
    assert whole.descriptor.digest == report.digest
    assert platforms_of(whole) == ("linux/amd64", "linux/arm64", "linux/riscv64")
    assert [one.digest for one in dst.referrers(amd)] == [made.descriptor.digest]


def test_two_of_one_platform_are_refused(tmp_path: Path) -> None:
    one = source(tmp_path / "one", b"one", "amd64")
    two = source(tmp_path / "two", b"two", "amd64")
    with pytest.raises(RelforgeError, match="two images are for linux/amd64") as caught:
        merge([one, two], LayoutStore(tmp_path / "both"))
    assert caught.value.code is ExitCode.USAGE
    for _, digest in (one, two):
        assert digest in (caught.value.why or "")
    assert not (tmp_path / "both").exists()


def test_merged_again_nothing_is_sent(tmp_path: Path) -> None:
    both = [source(tmp_path / "a", b"a", "amd64"), source(tmp_path / "b", b"b", "arm64")]
    dst = LayoutStore(tmp_path / "both")
    assert not merge(both, dst, tag="v1").nothing
    assert merge(both, dst, tag="v1").nothing
