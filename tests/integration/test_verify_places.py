"""`relforge verify` and what can be wrong with a folder, a tar, a registry, each in its own way."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from relforge.attesting.attachments import RELEASE
from relforge.engine.blobs import blob_path
from relforge.engine.layout import describe
from relforge.manifest.policy import Policy
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.store import OCI_INDEX, Manifest, referrers_tag
from relforge.publishing.published import CONTENTS, RECORD
from relforge.verifying import verify_place
from relforge.verifying.place import open_place
from relforge.verifying.run import Wanted, verify
from tests.support.forging import attached_to
from tests.support.verify_scene import Scene, reason, run_verb


def test_an_altered_layer_is_named_in_a_folder(scene: Scene) -> None:
    layer = describe(scene.forger.layout).layers[-1].digest
    path = blob_path(scene.forger.layout, layer)
    path.write_bytes(path.read_bytes()[::-1])
    report = scene.verify("folder")
    assert f"the blob {layer} is not what its digest says" in reason(report, "image")


def test_an_altered_layer_is_named_in_a_tar(scene: Scene) -> None:
    layer = describe(scene.forger.layout).layers[-1].digest
    data = blob_path(scene.forger.layout, layer).read_bytes()
    tar = scene.placed("tar")
    assert isinstance(tar, Path)
    whole = tar.read_bytes()
    assert whole.count(data) == 1
    tar.write_bytes(whole.replace(data, data[::-1]))
    report = verify_place(tar, scene.made.trusted)
    assert f"the blob {layer} is not what its digest says" in reason(report, "image")


def test_an_altered_layer_of_a_registry_is_found_when_layers_are_read(scene: Scene) -> None:
    scene.start(scene.made.other)
    layer = describe(scene.forger.layout).layers[-1].digest
    reference = scene.placed("registry")
    value = layer.removeprefix("sha256:")
    stored = scene.registry.data / f"docker/registry/v2/blobs/sha256/{value[:2]}/{value}/data"
    before = stored.read_bytes()
    stored.write_bytes(before[::-1])
    try:
        assert verify_place(reference, scene.made.trusted).verdict == "pass"
        report = verify_place(reference, scene.made.trusted, full=True)
        assert f"the blob {layer} is not what its digest says" in reason(report, "image")
        stored.unlink()
        report = verify_place(reference, scene.made.trusted)
        assert layer in reason(report, "image")
    finally:
        stored.write_bytes(before)


@pytest.mark.parametrize("part", ["manifest", "config", "attached"])
def test_an_altered_manifest_is_named(scene: Scene, part: str) -> None:
    facts = describe(scene.forger.layout)
    digest = {
        "manifest": facts.digest,
        "config": facts.config_digest,
        "attached": attached_to(scene.forger.folder)[0].manifest.descriptor.digest,
    }[part]
    path = blob_path(scene.forger.layout, digest)
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha255"[:6], 1)[:-1] + b" ")
    report = scene.verify("folder")
    assert digest in reason(report, "image")


def test_a_blob_that_is_missing_is_named(scene: Scene) -> None:
    layer = describe(scene.forger.layout).layers[0].digest
    blob_path(scene.forger.layout, layer).unlink()
    assert f"the blob {layer} is not there" in reason(scene.verify("folder"), "image")


def test_another_image_under_the_same_name_has_nothing_attached(scene: Scene) -> None:
    """The layers of another image with neither record nor signature, tagged like the first."""
    reference = scene.placed("registry")
    scene.start(scene.made.other)
    source = LayoutStore(scene.forger.layout)
    copy(source, scene.store, source.roots()[0][1].digest, tag="1", attachments=False)
    report = verify_place(reference, scene.made.trusted)
    assert "no release artifact is attached to the image" in reason(report, "contents")
    assert reason(report, "signature") == "nobody signed the image"


def test_a_tag_that_moves_meanwhile_is_read_once(scene: Scene) -> None:
    reference = scene.placed("registry")
    place = open_place(reference, Site())
    before = place.digest
    scene.start(scene.made.other)
    scene.placed("registry")
    wanted = Wanted(keys=scene.made.trusted, demanded=True)
    report = verify(place, wanted)
    assert (report.verdict, report.image_digest) == ("pass", before)
    moved = verify(reference, wanted)
    assert (moved.verdict, moved.image_digest) == ("pass", scene.forger.image.digest)
    assert moved.image_digest != before


def test_a_tag_that_was_moved_to_an_older_release_needs_a_policy(scene: Scene) -> None:
    """Everything about the older release is true; only who knows of the newer one can tell."""
    scene.placed("registry")
    newest = scene.verify("registry")
    serial = int(newest.finding("release").reason.partition("serial ")[2].partition(",")[0])
    scene.start(scene.made.older)
    assert scene.verify("folder").verdict == "pass"
    policy = Policy(stages=("smoke",), attestations={}, sbom=None, minimum_serial=serial)
    report = scene.verify("folder", policy=policy)
    assert "this is an older release, played back" in reason(report, "policy.serial")


@pytest.mark.parametrize("left", [False, True])
def test_an_edited_list_of_attachments_is_found(scene: Scene, left: bool) -> None:
    """The list that a registry without referrers API keeps under a tag is anybody's to write."""
    reference = scene.placed("registry")
    digest = describe(scene.forger.layout).digest
    store = scene.store
    listed = [one.to_json() for one in store.referrers(digest)]
    kept = [one for one in listed if left and one["artifactType"] != RELEASE]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": kept}
    store.put_manifest(Manifest.make(OCI_INDEX, index), tag=referrers_tag(digest))
    report = verify_place(reference, scene.made.trusted)
    assert "no release artifact is attached to the image" in reason(report, "contents")


def test_a_deleted_attestation_tag_and_list_leave_nothing(scene: Scene) -> None:
    reference = scene.placed("registry")
    store = scene.store
    for tag in store.tags():
        if tag.startswith("sha256-"):
            store.delete_tag(tag)
    report = verify_place(reference, scene.made.trusted)
    assert reason(report, "signature") == "nobody signed the image"
    assert "there is no attestation" in reason(report, "attestations")


def test_what_came_beside_is_named(scene: Scene) -> None:
    forger = scene.forger
    (forger.folder / "install.sh").write_text("echo hello\n")
    (forger.layout / "run.sh").write_text("echo hello\n")
    stray = forger.put_blob(b"a blob that nothing names")
    report = scene.verify("folder")
    assert "install.sh was not published" in reason(report, "contents")
    found = reason(report, "image")
    assert "image/run.sh is no part of the image" in found
    assert stray.removeprefix("sha256:") in found


def test_a_second_image_in_the_folder_is_named(scene: Scene) -> None:
    forger = scene.forger
    other = scene.made.other / "image"
    for path in (other / "blobs/sha256").iterdir():
        shutil.copy(path, forger.layout / "blobs/sha256")
    index = json.loads((forger.layout / "index.json").read_text())
    theirs = json.loads((other / "index.json").read_text())["manifests"]
    index["manifests"] = [index["manifests"][0], theirs[0], *index["manifests"][1:]]
    (forger.layout / "index.json").write_text(json.dumps(index))
    report = scene.verify("folder")
    assert f"index.json names {theirs[0]['digest']} beside the image" in reason(report, "image")


@pytest.mark.parametrize("name", ["README.md", RECORD, "evidence/smoke.json", "evidence"])
def test_a_link_out_of_the_folder_is_not_followed(scene: Scene, name: str) -> None:
    forger = scene.forger
    inside, outside = forger.folder / name, scene.root / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    report = scene.verify("folder")
    assert report.verdict == "fail"
    failed = " ".join(one.reason for one in report.failed)
    assert f"{name} is a link, which leads elsewhere" in failed


def test_a_link_among_the_blobs_ends_it(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    layer = describe(scene.forger.layout).layers[0].digest
    path = blob_path(scene.forger.layout, layer)
    path.rename(scene.root / "layer")
    path.symlink_to(scene.root / "layer")
    assert run_verb(str(scene.forger.folder)) == 7
    assert "is a link, which leads elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["image/index.json", RECORD, CONTENTS, "README.md"])
def test_a_pipe_does_not_hold_it_up(
    scene: Scene, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene.forger.folder / name
    path.unlink()
    os.mkfifo(path)
    assert run_verb(str(scene.forger.folder)) == 7
    said = capsys.readouterr()
    assert "is no regular file" in said.out + said.err
