"""What a policy asks for, and what it says when it does not get it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from relforge.attesting.statements import Statement
from relforge.attesting.verifying import Said
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.manifest.policy import Policy, load_policy
from relforge.manifest.publishing import LicensePolicy
from relforge.sbom.evidence import Licences, PackageRow
from relforge.verifying.image import ImageSeen, Part
from relforge.verifying.policy import Judged, outcomes
from relforge.verifying.report import passed
from relforge.verifying.signed import StatementsSeen
from tests.support.signed import new_key

IMAGE = "sha256:" + "a" * 64
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
MAKER = TrustedSigner("maker", new_key().public_key())
TESTER = TrustedSigner("tester", new_key().public_key())
ALL = ("provenance", "smoke", "evaluation", "scan", "release")


def said(name: str, signer: TrustedSigner = MAKER, **predicate: Any) -> Said:
    return Said(Statement(name="r", digest=IMAGE, predicate_type=name, predicate=predicate), signer)


def part(platform: str, labels: dict[str, str]) -> Part:
    return Part(platform=platform, digest=IMAGE, config="", layers=(), labels=labels)


def seen(**changes: Any) -> Judged:
    record = {
        "release": "hello-cpu_x86",
        "created": "2026-11-20T00:00:00Z",
        "project": {"commit": "1" * 40, "uncommitted_changes": False},
        "results": {name: {"verdict": "pass"} for name in ("smoke", "evaluate", "scan")},
        "skipped": {},
    }
    record |= changes.pop("record", {})
    given: dict[str, Any] = {
        "record": record,
        "image": ImageSeen(
            digest=IMAGE, is_index=False, manifests=(), blobs=(),
            parts=(part("linux/amd64", {"org.relforge.device": "cpu_x86"}),),
        ),
        "statements": StatementsSeen(passed(""), {name: [said(name)] for name in ALL}),
        "signers": (MAKER,),
        "sboms": frozenset({"spdx"}),
        "vulnerabilities": None,
        "licenses": None,
        "serial": 5,
        "now": NOW,
    }  # fmt: skip
    return Judged(**{**given, **changes})


def found(policy: Policy, judged: Judged) -> dict[str, tuple[str, str]]:
    return {name: (one.verdict, one.reason) for name, one in outcomes(policy, judged)}


def test_the_built_in_policy_passes_a_whole_release() -> None:
    verdicts = {name: verdict for name, (verdict, _) in found(load_policy(None), seen()).items()}
    assert verdicts == {
        "policy.signers": "pass", "policy.stages": "pass", "policy.attestations": "pass",
        "policy.sbom": "pass",
    }  # fmt: skip


@pytest.mark.parametrize("verdict", ["fail", "inconclusive", "not-run", None])
@pytest.mark.parametrize("stage", ["smoke", "evaluate", "scan"])
def test_only_pass_counts_as_passed(stage: str, verdict: str | None) -> None:
    results = seen().record["results"] | {stage: {"verdict": verdict}}
    state, reason = found(Policy(), seen(record={"results": results}))["policy.stages"]
    assert state == "fail"
    assert reason == f"{stage} is {verdict or 'not-run'}"


@pytest.mark.parametrize(
    ("skipped", "pattern", "state"),
    [
        ("not-needed: there is no reference", "hello-*", "pass"),
        ("not-needed: there is no reference", "other-*", "fail"),
        ("not-asked-for: stops after smoke", "hello-*", "fail"),
        ("not-built-yet: relforge cannot", "hello-*", "fail"),
    ],
)
def test_a_stage_may_be_skipped_where_manifest_and_policy_both_say_so(
    skipped: str, pattern: str, state: str
) -> None:
    policy = Policy(may_skip={"evaluate": (pattern,)})
    trusted = {name: [said(name)] for name in ALL if name != "evaluation"}
    judged = seen(
        record={
            "results": {name: {"verdict": "pass"} for name in ("smoke", "scan")},
            "skipped": {"evaluate": skipped},
        },
        statements=StatementsSeen(passed(""), trusted),
    )
    answers = found(policy, judged)
    assert answers["policy.stages"][0] == state
    assert answers["policy.attestations"][0] == state
    if state == "pass":
        assert "evaluate may be skipped here (there is no reference)" in answers["policy.stages"][1]
    assert found(Policy(), judged)["policy.stages"][0] == "fail"


def test_keys_are_named_and_counted() -> None:
    two = Policy(minimum_signers=2)
    assert found(two, seen())["policy.signers"][0] == "fail"
    assert found(two, seen(signers=(MAKER, TESTER)))["policy.signers"][0] == "pass"
    only = Policy(signers=("tester",))
    state, reason = found(only, seen())["policy.signers"]
    assert (state, "of tester are asked for" in reason, "maker" in reason) == ("fail", True, True)
    assert found(Policy(signers=(MAKER.keyid,)), seen())["policy.signers"][0] == "pass"
    assert found(Policy(), seen(signers=()))["policy.signers"][0] == "fail"


def test_a_statement_has_to_be_there_and_by_whom_it_should() -> None:
    rules = Policy(attestations={"smoke": {"signers": ("tester",)}})
    state, reason = found(rules, seen())["policy.attestations"]
    assert state == "fail"
    assert reason.startswith("smoke is signed by maker")
    both = {"smoke": [said("smoke"), said("smoke", TESTER)]}
    judged = seen(statements=StatementsSeen(passed(""), both))
    assert found(rules, judged)["policy.attestations"][0] == "pass"
    nothing = seen(statements=StatementsSeen(passed("")))
    _, reason = found(Policy(), nothing)["policy.attestations"]
    assert all(f"{name} is not there" in reason for name in ALL)


def test_a_claim_that_no_trusted_key_signed_is_no_attestation() -> None:
    claimed = {name: [said(name).statement] for name in ALL}
    judged = seen(statements=StatementsSeen(passed(""), {}, claimed))
    assert found(Policy(), judged)["policy.attestations"][0] == "fail"


def test_the_bill_of_materials_is_asked_for_in_a_form() -> None:
    assert found(Policy(), seen(sboms=frozenset()))["policy.sbom"][0] == "fail"
    assert found(Policy(sbom="cyclonedx"), seen())["policy.sbom"][0] == "fail"
    assert found(Policy(sbom="spdx"), seen())["policy.sbom"][0] == "pass"
    assert "policy.sbom" not in found(Policy(sbom=None), seen(sboms=frozenset()))


def report(*rows: tuple[str, str], image: str = IMAGE) -> bytes:
    listed = [
        {"id": id_, "severity": severity, "package": "zlib", "version": "1.2", "fixed_in": []}
        for id_, severity in rows
    ]
    document = {
        "format": "relforge.vulnerabilities/1", "state": "run", "image_digest": image,
        "found": listed,
    }  # fmt: skip
    return json.dumps(document).encode()


def test_vulnerabilities_above_the_limit_fail_but_for_exceptions() -> None:
    rows = (("CVE-1", "critical"), ("CVE-2", "high"), ("CVE-3", "unknown"))
    judged = seen(vulnerabilities=report(*rows))
    state, reason = found(Policy(), judged)["policy.vulnerabilities"]
    assert (state, reason) == ("fail", "CVE-1 (critical) in zlib 1.2")
    rule = {"max_severity": "high", "exceptions": {"CVE-1": "the code is not reached"}}
    state, reason = found(Policy(vulnerabilities=rule), judged)["policy.vulnerabilities"]
    assert (state, reason) == ("pass", "3 are known, none above high but for 1 exceptions")
    strict = Policy(vulnerabilities={"max_severity": "medium"})
    _, reason = found(strict, judged)["policy.vulnerabilities"]
    assert [part[:5] for part in reason.split("; ")] == ["CVE-1", "CVE-2", "CVE-3"]


def test_a_report_has_to_be_there_where_it_is_required_and_about_this_image() -> None:
    required = Policy(vulnerabilities={"required": True})
    assert (
        "no report of a vulnerability scanner"
        in (found(required, seen())["policy.vulnerabilities"][1])
    )
    assert "policy.vulnerabilities" not in found(Policy(), seen())
    other = seen(vulnerabilities=report(image="sha256:" + "b" * 64))
    assert "the report is about sha256:bbb" in found(Policy(), other)["policy.vulnerabilities"][1]


def test_licences_are_judged_by_the_readers_policy() -> None:
    rows = [
        PackageRow(kind="python", name=name, version="1", licence=licence, basis=None,
                   path=f"opt/{name}", layer=IMAGE)
        for name, licence in (("a", "MIT"), ("b", "AGPL-3.0-only"), ("c", "MIT OR AGPL-3.0-only"))
    ]  # fmt: skip
    table = Licences(
        release="r", image_digest=IMAGE, packages=tuple(rows), sources=(), texts={}, counts={},
        licences=2, unstated=0, unidentified=0, policy=LicensePolicy(), hits=(),
    ).model_dump_json().encode()  # fmt: skip
    policy = Policy(licenses=LicensePolicy(forbidden=("AGPL-3.0-only",)))
    state, reason = found(policy, seen(licenses=table))["policy.licenses"]
    assert (state, reason) == ("fail", "b 1 is under AGPL-3.0-only (opt/b)")
    allowed = LicensePolicy(forbidden=("AGPL-3.0-only",), allowed_packages={"b": "we bought it"})
    assert found(Policy(licenses=allowed), seen(licenses=table))["policy.licenses"][0] == "pass"
    assert "nobody knows the licences" in found(policy, seen())["policy.licenses"][1]


def test_labels_builder_age_serial_and_source() -> None:
    asked = Policy(
        labels={"org.relforge.device": "cpu_*"}, builders=("https://builder/*",),
        not_before=datetime(2026, 11, 1), max_age_days=30, minimum_serial=5, clean_source=True,
    )  # fmt: skip
    built = said("provenance", runDetails={"builder": {"id": "https://builder/7"}})
    good = seen(statements=StatementsSeen(passed(""), {"provenance": [built]}))
    names = ("labels", "builder", "age", "serial", "source")
    answers = found(asked, good)
    assert {answers[f"policy.{name}"][0] for name in names} == {"pass"}
    bad = seen(
        record={
            "created": "2026-10-01T00:00:00Z",
            "project": {"commit": "1" * 40, "uncommitted_changes": True},
        },
        serial=4,
        now=NOW + timedelta(days=1),
        image=ImageSeen(
            digest=IMAGE, is_index=False, manifests=(), blobs=(),
            parts=(part("linux/amd64", {"org.relforge.device": "bi_V150"}),),
        ),
    )  # fmt: skip
    answers = found(asked, bad)
    assert {answers[f"policy.{name}"][0] for name in names} == {"fail"}
    assert "before 2026-11-01" in answers["policy.age"][1]
    assert "61.0 days old, at most 30 are allowed" in answers["policy.age"][1]
    assert "this is an older release, played back" in answers["policy.serial"][1]
    assert found(asked, seen(serial=None))["policy.serial"][0] == "fail"
    future = seen(record={"created": "2026-12-24T00:00:00Z"})
    assert "which is yet to come" in found(asked, future)["policy.age"][1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stages: [sleep]", "stages"),
        ("attestations: {smoke: {signer: me}}", "did you mean 'signers'?"),
        ("may_skip: {bench: ['*']}", "may_skip names bench"),
        ("signed: false\nminimum_signers: 2", "need `signed: true`"),
        ("signers: [a]\nminimum_signers: 2", "more than `signers` names"),
        ("vulnerabilities: {max_severity: awful}", "max_severity"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"kind: policy\n{text}\n")
    with pytest.raises(RelforgeError) as caught:
        load_policy(path)
    assert caught.value.code is ExitCode.USAGE
    assert says in str(caught.value)
