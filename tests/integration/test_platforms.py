"""One image for several architectures: merged before the gates, and promoted as one digest."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from relforge.attesting.signing import SigningKey
from relforge.attesting.withdrawing import attach, withdrawal
from relforge.engine.layout import describe, first_alone, verify
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.build import OtherImage
from relforge.manifest.policy import Policy
from relforge.manifest.publishing import RegistryTarget as Spec
from relforge.manifest.site import Site
from relforge.oci.layout_store import LayoutStore
from relforge.oci.mirroring import mirror
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.store import OCI_INDEX
from relforge.publishing.gate import Gate
from relforge.publishing.published import read_published
from relforge.publishing.snapshot import snapshot
from relforge.publishing.tags import release_tags
from relforge.publishing.target import Doing
from relforge.publishing.targets.registry import RegistryTarget
from relforge.verifying import verify_place
from relforge.verifying.report import VerifyReport
from tests.support.published import RELEASE
from tests.support.registries import RealRegistry, docker_registry
from tests.support.verified import Releaser


@dataclass(frozen=True)
class Scene:
    """An image for arm64 that waits in a registry, released and signed, and the host for amd64."""

    root: Path
    registry: RealRegistry
    releaser: Releaser
    arm: Path
    name: str = "waiting"

    @property
    def other(self) -> OtherImage:
        return OtherImage(
            architecture="arm64",
            reference=f"{self.registry.host}/{self.name}/tiny-adder",
            digest=describe(self.arm / "image").digest,
        )

    @property
    def waiting(self) -> RegistryStore:
        return RegistryStore(Repository.parse(self.other.reference), site=Site())

    def wait(self, *, attachments: bool = True) -> Scene:
        """Sends what the arm64 host released to where its image waits."""
        where = f"{self.other.reference}@{self.other.digest}"
        mirror([str(self.arm)], where, Site(), attachments=attachments)
        return self

    def both(self, dist: str = "dist") -> Path:
        return self.releaser.release(self.root / self.name / dist, also=(self.other,))

    def verified(self, place: Path | str, policy: Policy | None = None) -> VerifyReport:
        return verify_place(place, self.releaser.trusted, policy or Policy())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("platforms")
    releaser = Releaser.at(root / "maker")
    arm = releaser.release(root / "arm", word=b"arm", architecture="arm64")
    (root / "registry").mkdir()
    with docker_registry(root / "registry") as registry:
        yield Scene(root, registry, releaser, arm)


@pytest.fixture(scope="module")
def both(scene: Scene) -> Path:
    return scene.wait().both()


def failed(report: VerifyReport) -> dict[str, str]:
    return {one.check: one.reason for one in report.checks if one.verdict == "fail"}


def test_the_release_is_the_index_and_every_gate_is_about_it(scene: Scene, both: Path) -> None:
    folder = both
    facts = verify(folder / "image")
    assert facts.platforms == ("linux/amd64", "linux/arm64")
    assert facts.others[0].digest == scene.other.digest
    record = json.loads((folder / "release.json").read_text())
    assert record["image_digest"] == facts.digest
    for stage in ("build", "scan", "attest", "publish"):
        assert record["results"][stage]["image_digest"] == facts.digest
    own, other = record["results"]["build"]["platforms"]
    assert (own["platform"], own["digest"], own["place"]) == (
        "linux/amd64", facts.alone.digest, None,
    )  # fmt: skip
    assert (other["digest"], other["place"]) == (scene.other.digest, scene.other.reference)
    # Both architectures' layers were searched.
    scanned = json.loads((folder / "evidence/content-scan.json").read_text())
    assert {one["digest"] for one in scanned["layers"]} == {
        layer.digest for one in facts.each for layer in one.layers
    }
    # The card says what was tested where.
    card = (folder / "README.md").read_text()
    assert "| Also for | linux/arm64" in card
    assert scene.other.digest in card
    assert facts.digest in card
    assert "arc_amd64_arm64" in release_tags(record)[0]

    report = scene.verified(folder)
    assert failed(report) == {}
    by_name = {one.check: one.reason for one in report.checks}
    assert "linux/arm64: smoke pass, evaluation pass" in by_name["platforms"]
    assert by_name["policy.platforms"] == "linux/arm64 passed what is asked for, signed"


def test_the_same_index_again(scene: Scene, both: Path) -> None:
    assert describe(scene.both("again") / "image") == describe(both / "image")


def test_promoted_as_one_and_read_by_other_programs(
    scene: Scene, both: Path, tmp_path: Path
) -> None:
    folder = both
    digest = describe(folder / "image").digest
    spec = Spec(
        kind="registry", release=f"{scene.registry.host}/release/{{model}}",
        candidate=f"{scene.registry.host}/waiting/{{model}}",
    )  # fmt: skip
    hub = RegistryTarget("hub", spec, Site())
    published = read_published(folder)
    for step in ("candidate", "promote"):
        hub.apply(published, step, Doing())
    place = f"{scene.registry.host}/release/tiny-adder"
    store = RegistryStore(Repository.parse(place), site=Site())
    for tag in release_tags(published.record):
        found = store.manifest(tag)
        assert found is not None
        assert (found.descriptor.digest, found.descriptor.media_type) == (digest, OCI_INDEX)
    assert failed(scene.verified(f"{place}@{digest}")) == {}
    assert hub.apply(published, "promote", Doing()).sent_bytes == 0
    key = scene.releaser.public_key(tmp_path / "maker.pub.pem")
    for one in (digest, scene.other.digest):
        words = ["cosign", "verify", "--key", str(key), "--insecure-ignore-tlog"]
        done = subprocess.run(
            [*words, "--allow-insecure-registry", f"{place}@{one}"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--override-arch", "arm64",
         f"docker://{place}@{digest}"], capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)["Architecture"] == "arm64", shown.stderr


@pytest.mark.parametrize("word", ["stripped", "stranger", "failed"])
def test_an_architecture_without_good_results_of_its_own_is_not_promoted(
    scene: Scene, tmp_path: Path, word: str
) -> None:
    arm = scene.arm
    if word == "stranger":
        others = Releaser.at(tmp_path / "stranger")
        arm = others.release(tmp_path / "theirs", word=b"arm", architecture="arm64")
    if word == "failed":
        arm = scene.releaser.release(
            tmp_path / "failing", word=b"arm", architecture="arm64", verdicts={"smoke": "fail"}
        )
    scene = replace(scene, name=word, arm=arm)
    scene.wait(attachments=word != "stripped")
    folder = scene.both()
    found = failed(scene.verified(folder))
    assert "policy.platforms" in found
    assert "linux/arm64: " in found["policy.platforms"]
    if word == "failed":
        assert "smoke is fail" in found["policy.platforms"]
    site = scene.releaser.site
    with snapshot(folder, home=tmp_path / "home") as kept:
        gate = Gate(kept, site, home=tmp_path / "home")
        with pytest.raises(RelforgeError, match="does not reach people") as caught:
            gate(RegistryTarget("hub", Spec(kind="registry", release="h.test/x"), site), "promote")
    assert caught.value.code is ExitCode.GATE
    assert "policy.platforms" in str(caught.value.what)
    let = Policy(untested_platforms={"linux/arm64": "no host of it yet"})
    if word == "stripped":
        assert failed(scene.verified(folder, let)) == {}


def test_one_architecture_that_was_withdrawn_takes_the_whole_back(scene: Scene) -> None:
    scene = replace(scene, name="taken-back").wait()
    manifest = scene.waiting.manifest(scene.other.digest)
    assert manifest is not None
    key = SigningKey.load(scene.releaser.site)
    attach(
        scene.waiting,
        withdrawal(
            manifest.descriptor.plain, release=RELEASE, reason="wrong answers",
            created="2026-01-01T00:00:00Z", key=key,
        ),
    )  # fmt: skip
    found = failed(scene.verified(scene.both()))
    assert "linux/arm64" in found["platforms"]
    assert "wrong answers" in found["platforms"]


def test_another_image_in_the_index_is_named(scene: Scene, both: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(both, tmp_path / RELEASE)
    record = json.loads((folder / "release.json").read_text())
    other = "sha256:" + "7" * 64
    record["results"]["build"]["platforms"][1]["digest"] = other
    (folder / "release.json").write_text(json.dumps(record))
    assert (
        f"for linux/arm64 the record has the image {other}"
        in failed(scene.verified(folder))["record"]
    )


def test_what_cannot_be_merged_is_named(scene: Scene) -> None:
    scene = replace(scene, name="empty")
    with pytest.raises(RelforgeError, match="the image for arm64 is not there") as absent:
        scene.both()
    assert absent.value.code is ExitCode.SOURCE
    assert scene.other.digest in (absent.value.where or "")
    scene.wait()
    wrong = scene.other.model_copy(update={"architecture": "riscv64"})
    with pytest.raises(RelforgeError, match="no image for linux/riscv64") as other:
        scene.releaser.release(scene.root / "empty/dist", also=(wrong,))
    assert other.value.why == "it is for linux/arm64"
    assert not (scene.root / "empty/dist").exists()


def test_an_archive_of_the_site_stands_for_a_registry_that_is_out_of_reach(
    scene: Scene, tmp_path: Path
) -> None:
    archive = tmp_path / "arm.tar"
    mirror([str(scene.arm)], str(archive), Site())
    far = scene.other.model_copy(update={"reference": "registry.example.org/waiting/tiny-adder"})
    site = scene.releaser.site.model_copy(update={"images": {far.reference: archive}})
    folder = replace(scene.releaser, site=site).release(tmp_path / "dist", also=(far,))
    assert failed(scene.verified(folder)) == {}


def test_programs_that_read_one_image_get_the_tested_one(both: Path, tmp_path: Path) -> None:
    layout = both / "image"
    area = tmp_path / "area"
    area.mkdir()
    with first_alone(layout, area) as alone:
        assert verify(alone) == describe(layout).alone
        assert [one.digest for _, one in LayoutStore(alone).roots()] == [
            describe(layout).alone.digest
        ]
    assert list(area.iterdir()) == []
