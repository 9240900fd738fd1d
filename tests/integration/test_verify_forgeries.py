"""`relforge verify` against whoever does not have the key: each forgery fails, and names what.

Every forgery is made in a published folder, with all fixed up that can be without the key, and
then, with what is attached, copied to a tar and to Debian's docker-registry.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from relforge.attesting import predicates
from relforge.attesting.attachments import COSIGN_SIGNATURE
from relforge.evidence import dsse
from relforge.frozen import content_key
from relforge.manifest.policy import Policy
from relforge.publishing.published import CONTENTS, RECORD, SEAL
from relforge.verifying.locks import whole_lock
from tests.support.forging import about, attached_to, envelopes_of, predicate_type
from tests.support.published import RELEASE as NAME
from tests.support.verify_scene import EVERYWHERE, Scene, Where, reason

# What nobody touched.


@pytest.mark.parametrize("where", EVERYWHERE)
def test_the_untouched_release_passes(scene: Scene, where: Where) -> None:
    policy = Policy(
        stages=("smoke", "evaluate"),
        attestations={"provenance": {}, "smoke": {}, "evaluation": {}, "release": {}},
        sbom=None, labels={"org.relforge.release": NAME}, max_age_days=2, minimum_serial=1,
    )  # fmt: skip
    report = scene.verify(where, policy=policy, full=True)
    assert report.verdict == "pass", report.failed
    assert report.kind == where
    assert report.signers == report.keys
    passed = {one.check for one in report.checks if one.verdict == "pass"}
    assert passed >= {
        "contents", "image", "record", "evidence", "card", "lock", "trees", "signature",
        "attestations", "provenance", "results", "release", "replay", "withdrawal",
        "policy.signers", "policy.stages", "policy.attestations", "policy.labels", "policy.age",
        "policy.serial",
    }  # fmt: skip


# Forgeries that are the same wherever the release lies: (what is done, check, words of its reason).

Forge = Callable[[Scene], object]


def card_number(scene: Scene) -> None:
    forger = scene.forger
    forger.edit("README.md", "95.40 %", "98.20 %")
    forger.relist()
    forger.reattach()


def card_load(scene: Scene) -> None:
    forger = scene.forger
    text = (forger.folder / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| 16 | 100 |"))
    cells = row.split("|")
    cells[4] = " 9999.9 "
    forger.edit("README.md", row, "|".join(cells))
    forger.relist()
    forger.reattach()


def card_head(scene: Scene) -> None:
    forger = scene.forger
    forger.edit("README.md", "value: 95.4", "value: 98.2")
    forger.relist()
    forger.reattach()


def chinese_card(scene: Scene) -> None:
    forger = scene.forger
    forger.edit("README_zh.md", "95.40 %", "98.20 %")
    forger.relist()
    forger.reattach()


def evidence_alone(scene: Scene) -> None:
    scene.forger.edit("evidence/evaluation.json", '"correct": false', '"correct": true')
    scene.forger.reattach()


def evidence_listed(scene: Scene) -> None:
    scene.forger.edit("evidence/evaluation.json", '"correct": false', '"correct": true')
    scene.forger.relist()
    scene.forger.reattach()


def evidence_recorded(scene: Scene) -> None:
    forger = scene.forger
    forger.edit("evidence/evaluation.json", '"correct": false', '"correct": true')
    forger.edit("evidence/evaluation.json", '"correct": 954', '"correct": 1000')
    forger.edit("evidence/evaluation.json", '"accuracy": 0.954', '"accuracy": 1.0')
    forger.recorded()
    forger.relist()
    forger.reattach()


def bench_faster(scene: Scene) -> None:
    """Faster requests in the tool's own file, and nowhere else."""
    forger = scene.forger
    raw = json.loads((forger.folder / "evidence/bench/concurrency-4.json").read_text())
    raw["ttfts"] = [second / 2 for second in raw["ttfts"]]
    forger.write("evidence/bench/concurrency-4.json", json.dumps(raw).encode())
    forger.recorded()
    forger.relist()
    forger.reattach()


def all_but_the_signature(scene: Scene) -> None:
    """The attacker's own whole, consistent release of the same image, under the old signatures."""
    forger = scene.forger
    for name in ("evidence", "README.md", "README_zh.md", RECORD, CONTENTS):
        source, target = scene.made.attacker / name, forger.folder / name
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            forger.write(name, source.read_bytes())
    forger.relist()
    forger.reattach()


def removed_attestation(scene: Scene) -> None:
    scene.forger.envelopes(
        lambda found: [one for one in found if predicate_type(one) != predicates.EVALUATION]
    )


def removed_release_statement(scene: Scene) -> None:
    scene.forger.envelopes(
        lambda found: [one for one in found if predicate_type(one) != predicates.RELEASE]
    )
    (scene.forger.folder / SEAL).unlink()


def removed_signature(scene: Scene) -> None:
    scene.forger.drop(COSIGN_SIGNATURE)


def other_key(scene: Scene) -> None:
    scene.start(scene.made.attacker)


def unsigned(scene: Scene) -> None:
    scene.forger.unsign()


def unsigned_and_recorded(scene: Scene) -> None:
    forger = scene.forger
    forger.unsign()

    def change(record: dict[str, Any]) -> None:
        record["results"]["attest"] |= {"signed": None, "verdict": "not-run"}
        record["verdicts"]["attest"] = "not-run"

    forger.record(change)
    forger.reattach()


def altered_payload_type(scene: Scene) -> None:
    def change(found: list[dsse.Envelope]) -> list[dsse.Envelope]:
        first, *rest = found
        return [dsse.Envelope("application/json", first.payload, first.signatures), *rest]

    scene.forger.envelopes(change)


def altered_statement(scene: Scene) -> None:
    def change(found: list[dsse.Envelope]) -> list[dsse.Envelope]:
        return [
            dsse.Envelope(
                one.payload_type,
                one.payload.replace(b'"result_correct":954', b'"result_correct":999'),
                one.signatures,
            )
            for one in found
        ]

    scene.forger.envelopes(change)


def attestation_of_another(scene: Scene) -> None:
    """The other image's evaluation, well signed, in the place of this one's."""
    (theirs,) = (
        one
        for one in envelopes_of(attached_to(scene.made.other))
        if predicate_type(one) == predicates.EVALUATION
    )
    scene.forger.envelopes(
        lambda found: [
            theirs if predicate_type(one) == predicates.EVALUATION else one for one in found
        ]
    )


def older_record(scene: Scene) -> None:
    """The older record, card and evidence of the same image, beside the newest statement."""
    forger = scene.forger
    older = envelopes_of(attached_to(scene.made.older))
    (statement,) = (one for one in older if predicate_type(one) == predicates.RELEASE)
    for name in ("evidence", "README.md", "README_zh.md", RECORD, CONTENTS):
        source, target = scene.made.older / name, forger.folder / name
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            forger.write(name, source.read_bytes())
    forger.reattach()
    forger.envelopes(lambda found: [statement, *found])


def swapped_image(scene: Scene) -> None:
    """Another image, on which all that was said of the first is hung."""
    before = attached_to(scene.forger.folder)
    forger = scene.forger
    shutil.rmtree(forger.layout)
    shutil.copytree(scene.made.other / "image", forger.layout)
    image = forger.image
    forger.attachments(lambda _theirs: [about(one, image) for one in before])


def older_release_on_new_image(scene: Scene) -> None:
    """The new image with the record and the signed statements of an older one."""
    forger = scene.start(scene.made.other)
    image = forger.image
    before = attached_to(scene.made.older)
    for name in ("evidence", "README.md", "README_zh.md", RECORD, CONTENTS, SEAL):
        source, target = scene.made.older / name, forger.folder / name
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            forger.write(name, source.read_bytes())
    forger.attachments(lambda _ours: [about(one, image) for one in before])


def edited_label(scene: Scene) -> None:
    forger = scene.forger
    before = attached_to(forger.folder)
    forger.relabel({"org.relforge.tree.vllm": "f" * 40})
    image = forger.image
    forger.record(lambda record: record.update(image_digest=image.digest))
    forger.relist()
    forger.attachments(lambda _none: [about(one, image) for one in before])
    forger.reattach()


def edited_lock(scene: Scene) -> None:
    forger = scene.forger
    forger.record(lambda record: record["lock"]["sources"]["vllm"].update(sha256="0" * 64))
    forger.reattach()


def edited_lock_and_hash(scene: Scene) -> None:
    def change(record: dict[str, Any]) -> None:
        record["lock"]["sources"]["vllm"]["sha256"] = "0" * 64
        lock = whole_lock(record)
        record["lock_sha256"] = record["inputs"]["card"]["values"]["lock_sha256"] = content_key(
            lock
        )

    scene.forger.record(change)
    scene.forger.reattach()


def edited_tree(scene: Scene) -> None:
    forger = scene.forger
    forger.record(
        lambda record: record["lock"]["patches"]["vllm-0.32.0-cpu"].update(result_tree="e" * 40)
    )
    forger.reattach()


def edited_verdict(scene: Scene) -> None:
    def change(record: dict[str, Any]) -> None:
        record["verdicts"]["smoke"] = "inconclusive"
        record["results"]["scan"]["verdict"] = "fail"

    scene.forger.record(change)
    scene.forger.reattach()


def extra_file(scene: Scene) -> None:
    forger = scene.forger
    forger.write("evidence/more.json", b"{}")
    contents = json.loads((forger.folder / CONTENTS).read_text())
    contents["files"]["evidence/more.json"] = "0"
    forger.write(CONTENTS, json.dumps(contents).encode())
    forger.relist()
    forger.reattach()


FORGERIES: list[tuple[Forge, str, str]] = [
    (card_number, "card", "README.md:"),
    (card_number, "release", "README.md is not the one that was signed"),
    (card_load, "card", "9999.9"),
    (card_head, "card", "98.2"),
    (chinese_card, "card", "README_zh.md:"),
    (evidence_alone, "contents", "evidence/evaluation.json is not the file that was published"),
    (evidence_listed, "record", "the record names evidence that is not there: evaluate:"),
    (evidence_listed, "evidence", "it records 954 of 1000 correct, its outcomes give 1000"),
    (evidence_recorded, "evidence", "has 1000 of 1000 right, the record 954 of 1000"),
    (evidence_recorded, "release", "evidence/evaluation.json is not the one that was signed"),
    (bench_faster, "evidence", "ttft mean is given as"),
    (all_but_the_signature, "release", "release.json is not the one that was signed"),
    (all_but_the_signature, "results", "evaluation:"),
    (removed_attestation, "attestations", "evaluation: is not there"),
    (removed_release_statement, "attestations", "release: is not there"),
    (removed_release_statement, "release", "no statement covers record, cards and evidence"),
    (removed_signature, "signature", "nobody signed the image"),
    (other_key, "signature", "another key signed the image"),
    (other_key, "attestations", "which is not trusted here"),
    (unsigned, "signature", "nobody signed the image"),
    (unsigned, "attestations", "evaluation: not signed"),
    (unsigned_and_recorded, "signature", "nobody signed the image"),
    (unsigned_and_recorded, "attestations", "provenance: not signed"),
    (altered_payload_type, "attestations", "the envelope holds 'application/json'"),
    (altered_statement, "attestations", "evaluation: the signature does not match"),
    (attestation_of_another, "attestations", "evaluation: it is about another image, sha256:"),
    (older_record, "replay", "release.json is an older one, played back: it is that of serial"),
    (older_record, "release", "release.json is an older one, played back"),
    (swapped_image, "record", "the record is about sha256:"),
    (swapped_image, "signature", "this is the signature of another image"),
    (swapped_image, "attestations", "provenance: it is about another image"),
    (older_release_on_new_image, "record", "the record is about sha256:"),
    (older_release_on_new_image, "signature", "this is the signature of another image"),
    (edited_label, "record", f"label org.relforge.tree.vllm: the record has"),  # noqa: F541
    (edited_label, "trees", "vllm: the lock has the tree"),
    (edited_label, "signature", "this is the signature of another image"),
    (edited_lock, "lock", "the record's lock hashes to"),
    (edited_lock, "provenance", "vllm"),
    (edited_lock_and_hash, "provenance", "lock"),
    (edited_lock_and_hash, "record", "labelled with the lock"),
    (edited_tree, "trees", "patch set vllm-0.32.0-cpu gave the tree"),
    (edited_verdict, "record", "the record gives scan as pass, and its result is fail"),
    (edited_verdict, "results", "scan: verdict is fail in the record, pass in the statement"),
    (edited_verdict, "release", "release.json is not the one that was signed"),
    (extra_file, "record", "evidence/more.json is not the evidence that the record names"),
    (extra_file, "release", "evidence/more.json is covered by no signature"),
]


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("forge", dict.fromkeys(forge for forge, _, _ in FORGERIES))
def test_a_forgery_is_named(scene: Scene, forge: Forge, where: Where) -> None:
    forge(scene)
    report = scene.verify(where)
    assert report.verdict == "fail"
    for made, check, words in FORGERIES:
        if made is forge:
            assert words in reason(report, check)
