"""A registry as a target: candidate, promotion, withdrawal, and what is never done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.attesting.withdrawing import withdrawn
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import RegistryTarget as Spec
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.mirroring import mirror
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.publishing.published import Published
from relforge.publishing.tags import candidate_tag, release_tags
from relforge.publishing.target import Doing, Step
from relforge.publishing.targets.registry import RegistryTarget
from relforge.verifying.place import open_place
from relforge.verifying.run import Wanted, verify
from tests.support.images import attachment, image
from tests.support.published import make_published
from tests.support.registries import RealRegistry, docker_registry

BOTH: tuple[Step, ...] = ("candidate", "promote")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def published(tmp_path: Path) -> Published:
    made = make_published(tmp_path)
    attachment(made.layout, made.image_digest, b'{"spdx": 1}')
    return made


def target(
    registry: RealRegistry, name: str, *, candidate: bool = True, site: Site | None = None
) -> RegistryTarget:
    spec = Spec(
        kind="registry",
        release=f"{registry.host}/{name}/{{model}}",
        candidate=f"{registry.host}/{name}-waiting/{{model}}" if candidate else None,
        mutable_tags=("latest",),
    )
    return RegistryTarget("hub", spec, site or Site())


def store(registry: RealRegistry, name: str) -> RegistryStore:
    return RegistryStore(Repository.parse(f"{registry.host}/{name}/tiny-adder"), site=Site())


def points_to(found: RegistryStore, tag: str) -> str | None:
    manifest = found.manifest(tag)
    return manifest.descriptor.digest if manifest else None


def test_a_release_from_candidate_to_withdrawal(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "whole")
    digest = published.image_digest
    waiting, release = store(registry, "whole-waiting"), store(registry, "whole")
    assert hub.place(published) == f"{registry.host}/whole/tiny-adder"

    plan = hub.plan(published, "candidate")
    assert not plan.nothing
    assert plan.bytes > 0
    assert registry.tags("whole-waiting/tiny-adder") == []
    done = hub.apply(published, "candidate", Doing())
    assert done.sent_bytes > 0
    assert points_to(waiting, candidate_tag(digest)) == digest
    assert release.manifest(digest) is None
    assert hub.plan(published, "candidate").nothing

    promoted = hub.apply(published, "promote", Doing())
    assert {"add"} == {change.action for change in promoted.changes}
    assert promoted.sent_bytes < 5000  # manifests: the blobs were mounted
    for tag in (*release_tags(published.record), "latest"):
        assert points_to(release, tag) == digest
        assert f"{release.name}:{tag}" in promoted.references
    assert f"{release.name}@{digest}" in promoted.references
    assert len(release.referrers(digest)) == 1

    hub.apply(published, "withdraw", Doing(reason="wrong answers"))
    assert [t for t in release.tags() if not t.startswith("sha256-")] == []
    assert hub.plan(published, "withdraw").nothing
    assert withdrawn(release, digest, Site()) == "wrong answers"


def test_a_withdrawn_image_is_not_promoted_again(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "back")
    for step in BOTH:
        hub.apply(published, step, Doing())
    hub.apply(published, "withdraw", Doing(reason="wrong answers"))
    hub.apply(published, "candidate", Doing())
    release = store(registry, "back")
    with pytest.raises(RelforgeError, match="was withdrawn, and is not there") as gone:
        open_place(f"{release.name}@{published.image_digest}", Site())
    assert "wrong answers" in (gone.value.why or "")
    with pytest.raises(RelforgeError, match="was withdrawn") as caught:
        hub.apply(published, "promote", Doing())
    assert "wrong answers" in (caught.value.why or "")
    assert [t for t in store(registry, "back").tags() if not t.startswith("sha256-")] == []


def test_again_nothing_is_sent_and_nothing_changes(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "again")
    for step in BOTH:
        hub.apply(published, step, Doing())
    before = [registry.requests(method) for method in ("POST", "PUT", "PATCH", "DELETE")]
    asked = registry.requests("HEAD"), registry.requests("GET")
    again = target(registry, "again")
    for step in BOTH:
        assert again.apply(published, step, Doing()).sent_bytes == 0
    # No blob of a manifest that is there is asked for, and each place is looked through once.
    assert registry.requests("HEAD") == asked[0]
    assert registry.requests("GET") - asked[1] < 25
    for step in BOTH:
        assert hub.plan(published, step).nothing
        done = hub.apply(published, step, Doing())
        assert done.sent_bytes == 0
        assert {change.action for change in done.changes} == {"same"}
    assert [registry.requests(m) for m in ("POST", "PUT", "PATCH", "DELETE")] == before


def test_what_a_registry_lost_is_found_by_verify_and_mended_by_mirror(
    registry: RealRegistry, published: Published, tmp_path: Path
) -> None:
    hub = target(registry, "lost")
    for step in BOTH:
        hub.apply(published, step, Doing())
    release = store(registry, "lost")
    manifest = LayoutStore(published.layout).manifest(published.image_digest)
    assert manifest is not None
    layer = manifest.blobs[1]
    links = "docker/registry/v2/repositories/lost/tiny-adder/_layers/sha256"
    shutil.rmtree(registry.data / links / layer.digest.removeprefix("sha256:"))
    assert not release.has_blob(layer.digest)
    assert hub.plan(published, "promote").nothing

    place = f"{release.name}@{published.image_digest}"
    report = verify(place, Wanted())
    (image,) = [one for one in report.checks if one.check == "image"]
    assert image.verdict == "fail"
    assert layer.digest in image.reason
    found = mirror([str(published.folder)], place, Site(home=tmp_path / "home"))
    assert [piece.digest for piece in found.pieces if piece.state != "there"] == [layer.digest]
    assert release.has_blob(layer.digest)


def test_a_tag_of_another_image_is_never_moved(
    registry: RealRegistry, published: Published, tmp_path: Path
) -> None:
    hub = target(registry, "taken")
    _, short = release_tags(published.record)
    release = store(registry, "taken")
    other = image(tmp_path / "other", b"somebody else's")
    copy(LayoutStore(tmp_path / "other"), release, other, tag=short)
    hub.apply(published, "candidate", Doing())
    with pytest.raises(RelforgeError, match=f"tag {short} is another image's") as caught:
        hub.apply(published, "promote", Doing())
    assert caught.value.code is ExitCode.PUBLISH
    for digest in (other, published.image_digest):
        assert digest in (caught.value.why or "")
    assert points_to(release, short) == other
    assert release.manifest("latest") is None
    with pytest.raises(RelforgeError):
        hub.plan(published, "promote")


def test_a_mutable_tag_moves_and_goes_back(
    registry: RealRegistry, published: Published, tmp_path: Path
) -> None:
    hub = target(registry, "moving")
    release = store(registry, "moving")
    old = image(tmp_path / "old", b"the release before")
    copy(LayoutStore(tmp_path / "old"), release, old, tag="latest")
    hub.apply(published, "candidate", Doing())
    done = hub.apply(published, "promote", Doing())
    moved = next(change for change in done.changes if change.name == "latest")
    assert (moved.action, moved.before, moved.after) == ("replace", old, published.image_digest)
    assert points_to(release, "latest") == published.image_digest
    hub.undo(published, done, Doing())
    assert points_to(release, "latest") == old
    for tag in release_tags(published.record):
        assert release.manifest(tag) is None


def test_nothing_is_promoted_that_did_not_wait(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "early")
    with pytest.raises(RelforgeError, match="the candidate is not there") as caught:
        hub.apply(published, "promote", Doing())
    assert "relforge publish" in (caught.value.hint or "")
    assert registry.tags("early/tiny-adder") == []


def test_a_candidate_that_lacks_an_attachment_is_not_promoted(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "lacking")
    hub.apply(published, "candidate", Doing())
    attachment(published.layout, published.image_digest, b"signed later")
    with pytest.raises(RelforgeError, match="the candidate is not there, or not whole"):
        hub.apply(published, "promote", Doing())
    hub.apply(published, "candidate", Doing())
    hub.apply(published, "promote", Doing())
    assert len(store(registry, "lacking").referrers(published.image_digest)) == 2


@pytest.mark.parametrize("across", [False, True])
def test_what_others_attached_to_the_candidate_stays_there(
    registry: RealRegistry, published: Published, tmp_path: Path, across: bool
) -> None:
    digest = published.image_digest
    with docker_registry(tmp_path / "other") as other:
        goes_to = other if across else registry
        spec = Spec(
            kind="registry",
            release=f"{goes_to.host}/foreign/{{model}}",
            candidate=f"{registry.host}/foreign-waiting-{across}/{{model}}".lower(),
        )
        hub = RegistryTarget("hub", spec, Site())
        hub.apply(published, "candidate", Doing())
        shutil.copytree(published.layout, tmp_path / "foreign")
        foreign = attachment(tmp_path / "foreign", digest, b"a stranger's")
        waiting = store(registry, f"foreign-waiting-{across}".lower())
        copy(LayoutStore(tmp_path / "foreign"), waiting, digest)
        assert len(waiting.referrers(digest)) == 2

        hub.apply(published, "promote", Doing())
        release = store(goes_to, "foreign")
        (listed,) = release.referrers(digest)
        assert listed.digest != foreign.descriptor.digest
        assert release.manifest(foreign.descriptor.digest) is None
        assert not any(release.has_blob(blob.digest) for blob in foreign.blobs[1:])


def test_without_a_repository_of_its_own_a_candidate_has_no_tag(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "one", candidate=False)
    hub.apply(published, "candidate", Doing())
    release = store(registry, "one")
    assert [t for t in release.tags() if not t.startswith("sha256-")] == []
    assert release.manifest(published.image_digest) is not None
    hub.apply(published, "promote", Doing())
    assert points_to(release, "latest") == published.image_digest


def test_undoing_a_candidate_takes_its_tag_away(
    registry: RealRegistry, published: Published
) -> None:
    hub = target(registry, "undone")
    done = hub.apply(published, "candidate", Doing())
    hub.undo(published, done, Doing())
    assert store(registry, "undone-waiting").manifest(published.image_digest) is None
    hub.apply(published, "candidate", Doing())
    assert hub.plan(published, "candidate").nothing


def test_withdrawing_leaves_what_points_elsewhere(
    registry: RealRegistry, published: Published, tmp_path: Path
) -> None:
    hub = target(registry, "left")
    for step in BOTH:
        hub.apply(published, step, Doing())
    release = store(registry, "left")
    newer = image(tmp_path / "newer", b"the release after")
    copy(LayoutStore(tmp_path / "newer"), release, newer, tag="latest")
    plan = hub.plan(published, "withdraw")
    tags = [change.name for change in plan.changes if change.kind == "tag"]
    assert sorted(tags) == sorted(release_tags(published.record))
    hub.apply(published, "withdraw", Doing())
    assert points_to(release, "latest") == newer


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_tag_that_appears_while_others_are_removed_saves_the_image(
    registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    digest = image(tmp_path / "a", b"wanted elsewhere %d" % late)
    found = store(registry, f"late-{late}")
    copy(LayoutStore(tmp_path / "a"), found, digest, tag="mine")
    manifest = found.manifest(digest)
    assert manifest is not None
    listed, looks = found.tags, []

    def tags() -> tuple[str, ...]:
        looks.append(listed())
        if len(looks) == late:  # after the answer, as another publisher would
            found.put_manifest(manifest, tag="theirs")
        return looks[-1]

    monkeypatch.setattr(found, "tags", tags)
    if late < 3:
        with pytest.raises(RelforgeError, match="only with all others") as caught:
            found.delete_tags(["mine"])
        assert "theirs" in (caught.value.why or "")
        assert points_to(found, "theirs") == points_to(found, "mine") == digest
    else:
        found.delete_tags(["mine"])  # after the last look, as the documentation says
        assert found.manifest(digest) is None
    assert len(looks) == min(late + 1, 3)


def test_promotion_to_another_registry_copies(
    registry: RealRegistry, published: Published, tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "other") as other:
        spec = Spec(
            kind="registry",
            release=f"{other.host}/team/{{model}}",
            candidate=f"{registry.host}/across/{{model}}",
        )
        hub = RegistryTarget("hub", spec, Site())
        hub.apply(published, "candidate", Doing())
        hub.apply(published, "promote", Doing())
        assert sorted(release_tags(published.record)) == [
            tag for tag in other.tags("team/tiny-adder") if not tag.startswith("sha256-")
        ]
