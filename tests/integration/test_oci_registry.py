"""The registry client against Debian's docker-registry: what is sent, what is not, what is kept."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.attesting.attachments import SPDX, TAG, signature_tag
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.oci.copying import copy, survey
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.store import Descriptor, referrers_tag
from relforge.oci.tar_store import TarStore
from tests.support.images import attachment, image, index, signed_image
from tests.support.registries import RealRegistry, docker_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def store(registry: RealRegistry, name: str, *, site: Site | None = None) -> RegistryStore:
    return RegistryStore(Repository.parse(f"{registry.host}/{name}"), site=site or Site())


def test_the_pushed_digest_is_the_layouts(registry: RealRegistry, tmp_path: Path) -> None:
    digest, attached = signed_image(tmp_path / "image", b"pushed", b"big1")
    dst = store(registry, "team/model")
    report = copy(LayoutStore(tmp_path / "image"), dst, digest, tag="v1")
    found = dst.manifest("v1")
    assert found is not None
    assert found.descriptor.digest == digest
    assert report.count("there") == 0
    for piece in report.pieces:
        assert registry.has(piece.digest)
    assert {one.digest for one in dst.referrers(digest)} == set(attached)
    assert registry.tags("team/model") == sorted(
        ["v1", referrers_tag(digest), signature_tag(digest)]
    )


def test_again_sends_nothing(registry: RealRegistry, tmp_path: Path) -> None:
    digest, _ = signed_image(tmp_path / "image", b"again")
    src = LayoutStore(tmp_path / "image")
    copy(src, store(registry, "team/again"), digest, tag="v1")
    asked = [registry.requests(method) for method in ("POST", "PUT", "PATCH")]
    dst = store(registry, "team/again")
    assert survey(src, dst, digest, tag="v1").nothing
    report = copy(src, dst, digest, tag="v1")
    assert report.nothing
    assert (report.sent_bytes, dst.sent_bytes) == (0, 0)
    assert [registry.requests(method) for method in ("POST", "PUT", "PATCH")] == asked


def test_a_copy_within_a_registry_mounts(registry: RealRegistry, tmp_path: Path) -> None:
    digest, _ = signed_image(tmp_path / "image", b"mounted", b"big1")
    candidate, release = store(registry, "wait/model"), store(registry, "release/model")
    copy(LayoutStore(tmp_path / "image"), candidate, digest)
    assert registry.tags("wait/model") == [referrers_tag(digest), signature_tag(digest)]
    report = copy(candidate, release, digest, tag="v1", mount_from="wait/model")
    assert report.count("mounted") == 6
    assert release.sent_bytes < 10_000  # manifests
    copied = release.manifest("v1")
    assert copied is not None
    assert copied.descriptor.digest == digest


def test_a_mount_from_where_it_is_not_is_sent(registry: RealRegistry, tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"not mounted")
    dst = store(registry, "team/not-mounted")
    report = copy(LayoutStore(tmp_path / "image"), dst, digest, mount_from="nobody/nothing")
    assert report.count("mounted") == 0
    assert dst.manifest(digest) is not None


def test_an_index_is_copied_with_all_platforms(registry: RealRegistry, tmp_path: Path) -> None:
    amd = image(tmp_path / "image", b"amd", tag=None)
    arm = image(tmp_path / "image", b"arm", tag=None, architecture="arm64")
    both = index(tmp_path / "image", amd, arm)
    attachment(tmp_path / "image", both, b"of both")
    attachment(tmp_path / "image", arm, b"of one")
    dst = store(registry, "team/both")
    copy(LayoutStore(tmp_path / "image"), dst, both, tag="v1")
    assert len(dst.referrers(both)) == len(dst.referrers(arm)) == 1
    copy(dst, LayoutStore(tmp_path / "back"), both, tag="v1")
    for name in ("index.json", "oci-layout"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "image" / name).read_bytes()


def test_registry_folder_and_tar_hold_the_same(registry: RealRegistry, tmp_path: Path) -> None:
    digest, attached = signed_image(tmp_path / "image", b"round", b"trip")
    dst = store(registry, "team/round")
    copy(LayoutStore(tmp_path / "image"), dst, digest, tag="v1")
    copy(dst, TarStore(tmp_path / "a.tar"), digest, tag="v1")
    copy(TarStore(tmp_path / "a.tar"), LayoutStore(tmp_path / "back"), digest, tag="v1")
    copy(LayoutStore(tmp_path / "back"), TarStore(tmp_path / "b.tar"), digest, tag="v1")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    back = LayoutStore(tmp_path / "back")
    assert (tmp_path / "back/index.json").read_bytes() == (
        tmp_path / "image/index.json"
    ).read_bytes()
    found = {one.digest: one for one in back.referrers(digest)}
    assert set(found) == set(attached)
    assert found[attached[0]].artifact_type == SPDX
    assert found[attached[1]].annotations[TAG] == signature_tag(digest)


def test_a_signature_that_only_a_tag_names_is_copied(
    registry: RealRegistry, tmp_path: Path
) -> None:
    """What cosign writes has no subject."""
    digest = image(tmp_path / "image", b"signed by others")
    signature = image(tmp_path / "image", b"its signature", tag=None)
    src = store(registry, "team/cosigned")
    copy(LayoutStore(tmp_path / "image"), src, digest, tag="v1")
    copy(LayoutStore(tmp_path / "image"), src, signature, tag=signature_tag(digest))
    copy(src, LayoutStore(tmp_path / "back"), digest, tag="v1")
    back = LayoutStore(tmp_path / "back")
    assert [one.digest for one in back.referrers(digest)] == [signature]
    assert [found.digest for _, found in back.roots()] == [digest]
    dst = store(registry, "team/cosigned-again")
    copy(back, dst, digest, tag="v1")
    assert signature_tag(digest) in registry.tags("team/cosigned-again")


def test_entries_of_others_stay(registry: RealRegistry, tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"two publishers")
    dst = store(registry, "team/others")
    copy(LayoutStore(tmp_path / "image"), dst, digest, tag="v1")
    first = attachment(tmp_path / "image", digest, b"first")
    copy(LayoutStore(tmp_path / "image"), dst, digest, tag="v1")
    other = LayoutStore(tmp_path / "other")
    copy(dst, other, digest, attachments=False)
    second = attachment(tmp_path / "other", digest, b"second")
    copy(other, dst, digest)
    assert {one.digest for one in dst.referrers(digest)} == {
        first.descriptor.digest,
        second.descriptor.digest,
    }


def test_tags_are_removed_and_others_stay(registry: RealRegistry, tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"tagged")
    dst = store(registry, "team/tags")
    src = LayoutStore(tmp_path / "image")
    for tag in ("v1", "latest"):
        copy(src, dst, digest, tag=tag)
    with pytest.raises(RelforgeError, match="removes tags only with all others") as caught:
        dst.delete_tag("v1")
    assert "latest" in (caught.value.why or "")
    assert dst.tags() == ("latest", "v1")
    dst.delete_tags(("v1", "latest"))
    assert dst.tags() == ()
    dst.delete_tag("v1")


def test_a_registry_without_deletes_is_told(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"kept")
    with docker_registry(tmp_path / "registry", delete=False) as registry:
        dst = store(registry, "team/kept")
        copy(LayoutStore(tmp_path / "image"), dst, digest, tag="v1")
        with pytest.raises(RelforgeError, match="allows no deletes") as caught:
            dst.delete_tag("v1")
        assert dst.tags() == ("v1",)
    assert caught.value.code is ExitCode.PUBLISH
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in (caught.value.hint or "")


def test_what_a_registry_does_not_have(registry: RealRegistry) -> None:
    dst = store(registry, "team/nothing")
    assert dst.manifest("v1") is None
    assert dst.tags() == ()
    assert not dst.has_blob("sha256:" + "0" * 64)
    missing = Descriptor(media_type="x", digest="sha256:" + "0" * 64, size=3)
    with pytest.raises(RelforgeError), dst.open_blob(missing) as reader:
        reader.read()


def test_content_that_is_not_its_digest_is_refused(registry: RealRegistry) -> None:
    dst = store(registry, "team/altered")
    wanted = Descriptor.of("application/octet-stream", b"what was promised")
    with pytest.raises(RelforgeError) as caught:
        dst.put_blob(wanted, lambda: io.BytesIO(b"what is sent is!!"))
    assert caught.value.code is ExitCode.PUBLISH
    assert not dst.has_blob(wanted.digest)


def test_many_tags_come_in_pages(
    registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relforge.oci.registry._PAGE", 2)
    digest = image(tmp_path / "image", b"many")
    dst = store(registry, "team/many")
    wanted = tuple(f"v{number}" for number in range(5))
    for tag in wanted:
        copy(LayoutStore(tmp_path / "image"), dst, digest, tag=tag)
    assert dst.tags() == wanted
