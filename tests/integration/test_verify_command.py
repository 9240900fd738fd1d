"""`relforge verify` as it is typed: keys, lock, project, words, JSON; and withdrawn releases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from relforge.attesting import predicates
from relforge.attesting.signing import SigningKey
from relforge.attesting.statements import Statement
from relforge.manifest.project import builtin_root
from relforge.manifest.publishing import PublishSite, SigningSite
from relforge.manifest.site import Site
from relforge.publishing.published import RECORD
from relforge.verifying import verify_place
from relforge.verifying.report import VerifyReport
from tests.support.published import RELEASE as NAME
from tests.support.signed import key_file
from tests.support.verify_scene import Scene, reason, run_verb

LOCK = builtin_root() / "manifests" / "releases" / f"{NAME}.lock.yaml"


def asked(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 0) -> VerifyReport:
    capsys.readouterr()
    assert run_verb(*map(str, words), "--json") == status
    return VerifyReport.model_validate_json(capsys.readouterr().out)


def test_json_has_the_form_of_its_schema(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(str(scene.forger.folder), "--key", str(scene.made.key), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    path = builtin_root() / "manifests" / "schema" / "verify-output.schema.json"
    jsonschema.validate(found, json.loads(path.read_text()))
    assert found["signers"] == found["keys"]
    assert found["policy"] is None


def test_without_a_key_it_says_what_it_does_not_know(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of a signed release says that it was signed: so it still must be."""
    report = asked(capsys, scene.forger.folder)
    assert report.finding("signature").verdict == "not-run"
    assert "--key" in report.finding("signature").reason
    assert report.finding("attestations").verdict == "not-run"
    assert report.signers == ()
    assert run_verb(str(scene.forger.folder)) == 0
    assert "pass: it is whole and agrees with itself; who made it is not known" in (
        capsys.readouterr().out
    )
    scene.forger.unsign()
    asked(capsys, scene.forger.folder, status=7)


def test_the_sites_trusted_keys_count_where_none_is_named(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    site = scene.root / "site.yaml"
    site.write_text(
        f"kind: site\nhome: home\ntrusted_keys:\n  - {{name: us, public_key: {scene.made.key}}}\n"
    )
    report = asked(capsys, scene.forger.folder, "--site", site)
    assert [one.name for one in report.signers] == ["us"]
    stranger = SigningKey.load(
        Site(publish=PublishSite(signing=SigningSite(key=key_file(scene.root / "stranger.pem"))))
    )
    assert stranger is not None
    (scene.root / "stranger.pub").write_bytes(stranger.public_pem)
    words = (scene.forger.folder, "--site", site, "--key", scene.root / "stranger.pub")
    report = asked(capsys, *words, status=7)
    assert "another key signed the image" in reason(report, "signature")
    both = asked(capsys, *words, "--key", scene.made.key)
    assert [one.name for one in both.keys] == ["stranger.pub", "maker.pub"]
    assert [one.name for one in both.signers] == ["maker.pub"]


def test_the_lock_that_it_has_to_be_made_of(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    report = asked(capsys, scene.forger.folder, "--lock", LOCK)
    assert f"and it is {LOCK}" in report.finding("lock").reason
    other = scene.root / "other.lock.yaml"
    other.write_text(LOCK.read_text().replace("d2c957d5", "d2c957d6"))
    report = asked(capsys, scene.forger.folder, "--lock", other, status=7)
    said = reason(report, "lock")
    assert f"{other} is another lock" in said
    assert "source vllm differs" in said


def test_the_project_has_the_same_patches_references_and_translations(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    report = asked(capsys, scene.forger.folder, "--project", builtin_root())
    assert "1 patch sets of the project are those of the lock" in report.finding("trees").reason
    assert "translated" not in report.finding("card").reason
    scene.forger.edit("README_zh.md", "不", "没")
    report = asked(capsys, scene.forger.folder, "--project", builtin_root(), status=7)
    assert "README_zh.md:" in reason(report, "card")


def test_words_name_what_failed_what_it_means_and_what_to_do(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.forger.record(lambda record: record.update(relforge="0.0"))
    assert run_verb(str(scene.forger.folder), "--key", str(scene.made.key)) == 7
    said = capsys.readouterr()
    assert "FAIL release" in said.out
    assert f"{RECORD} is not the one that was signed" in said.out
    assert "means: record, cards or evidence are not those that were signed" in said.out
    assert said.out.rstrip().endswith("fail: release, replay") or "fail: release" in said.out
    assert said.err.rstrip().endswith(": fail")


@pytest.mark.parametrize("by", ["maker", "stranger"])
def test_a_release_that_was_taken_back(scene: Scene, by: str) -> None:
    from relforge.attesting.signing import SigningKey as Key

    path = scene.made.key.parent / "maker" / "maker.pem"
    if by == "stranger":
        path = key_file(scene.root / "stranger.pem")
    key = Key.load(Site(publish=PublishSite(signing=SigningSite(key=path))))
    assert key is not None
    statement = Statement(
        name=NAME, digest=scene.forger.image.digest, predicate_type=predicates.WITHDRAWAL,
        predicate={"reason": "a wrong kernel", "created": "2026-12-01T00:00:00Z"},
    )  # fmt: skip
    scene.forger.envelopes(lambda found: [*found, key.sign_statement(statement)])
    report = verify_place(scene.forger.folder, scene.made.trusted)
    if by == "maker":
        assert reason(report, "withdrawal") == (
            "the release was withdrawn on 2026-12-01T00:00:00Z: a wrong kernel"
        )
    else:
        assert report.finding("withdrawal").verdict == "pass"
        assert "1 statements by strangers say so" in report.finding("withdrawal").reason


@pytest.mark.parametrize("whole", [True, False])
def test_a_card_of_another_version_is_compared_by_its_rows(scene: Scene, whole: bool) -> None:
    """Its sentences are others, its figures are not; with ``whole`` the record can be read."""
    forger = scene.forger

    def change(record: dict[str, Any]) -> None:
        values = record["inputs"]["card"]["values"]
        values["generator"] = "0" * 64
        if not whole:
            values["unheard"] = "of"

    forger.record(change)
    forger.edit("README.md", "## Technical summary", "## Summary")
    card = verify_place(forger.folder).finding("card")
    assert card.verdict == "pass"
    assert "another version of relforge" in card.reason
    load = next(
        line
        for line in (forger.folder / "README.md").read_text().splitlines()
        if line.startswith("| 16 | 100 |")
    )
    rate = load.split("|")[4]
    for old, new in (("95.40 %", "98.20 %"), (rate, " 9999.9 "), ("value: 95.4", "value: 98.2")):
        forger.edit("README.md", old, new)
        said = reason(verify_place(forger.folder), "card")
        assert new.split()[-1].strip("%") in said or old.strip() in said
        forger.edit("README.md", new, old)
    assert verify_place(forger.folder).finding("card").verdict == "pass"
