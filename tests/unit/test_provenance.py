"""The statements about an image: each input of the lock, each verdict, each evidence file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from relforge.attesting import predicates
from relforge.attesting.provenance import Opened, provenance, purl
from relforge.attesting.results import result_predicates
from relforge.evidence import dsse
from relforge.evidence.store import Record, Store
from relforge.frozen import canonical_json, content_key
from relforge.lock import LockedSource
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.site import Site
from relforge.plan import subject
from relforge.publishing.evidencefiles import evidence_of
from relforge.scanning.vulnerabilities import Vulnerabilities, Vulnerability
from relforge.stage import StageResult
from relforge.stages.evaluate import EvaluateResult
from relforge.stages.scan import ScanResult, VulnerabilityState
from tests.support.published import RELEASE
from tests.support.signed import KEYS, Maker
from tests.unit.test_card import FIGURES, build


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "maker")


def made(maker: Maker, **changes: Any) -> dict[str, Any]:
    about = maker.subject
    return provenance(
        about.release, about.lock, build(), opened={}, stage_keys=KEYS, built=None, **changes
    )


def test_every_resolved_input_of_the_lock_is_a_dependency(maker: Maker) -> None:
    lock = maker.subject.lock
    found = made(maker)["buildDefinition"]["resolvedDependencies"]
    digests = [one["digest"] for one in found]
    for source in lock.sources.values():
        assert any(
            one.get("gitTree") == source.tree and source.sha256 in (None, one.get("sha256"))
            for one in digests
        )
    named = {one["name"]: one for one in found}
    assert len(named) == len(found)
    for name, patches in lock.patches.items():
        assert named[f"patch-set/{name}"]["digest"] == {"sha256": patches.content}
        assert named[f"patch-set/{name}"]["annotations"]["result_tree"] == patches.result_tree
        for file, sha256 in patches.patches:
            assert named[f"patch/{name}/{file}"]["digest"] == {"sha256": sha256}
    for wheels, use in ((lock.wheels, "wheel"), (lock.build_wheels, "build-wheel")):
        assert wheels.wheels
        for wheel in wheels.wheels:
            one = named[f"{use}/{wheel.file_name}"]
            assert one["digest"] == {"sha256": wheel.sha256}
            assert one["uri"].startswith("pkg:pypi/")
    assert named["base-image"]["digest"] == {"sha256": "ef" * 32}
    count = 1 + len(lock.sources) + len(lock.patches)
    count += sum(len(one.patches) for one in lock.patches.values())
    assert len(found) == count + len(lock.wheels.wheels) + len(lock.build_wheels.wheels)


def test_a_sealed_patch_set_is_named_by_content_and_by_bundle(maker: Maker) -> None:
    about = maker.subject
    (name,) = about.lock.patches
    opened = {name: Opened(sealed=True, ships="none", signer_keyid="a", bundle_sha256="5" * 64)}
    found = provenance(
        about.release, about.lock, build(), opened=opened, stage_keys=KEYS, built=None
    )["buildDefinition"]["resolvedDependencies"]
    named = {one["name"]: one for one in found}
    assert named[f"patch-bundle/{name}"]["digest"] == {"sha256": "5" * 64}
    told = named[f"patch-set/{name}"]["annotations"]
    assert (told["sealed"], told["ships"], told["signer_keyid"]) == (True, "none", "a")


def test_the_parameters_are_what_the_user_chose_and_the_lock(maker: Maker) -> None:
    about = maker.subject
    definition = made(maker)["buildDefinition"]
    given = definition["externalParameters"]
    assert given["release"] == RELEASE
    assert given["device"] == "cpu_x86"
    assert given["manifest"]["engine"] == about.release.engine
    assert definition["internalParameters"]["lock_sha256"] == content_key(about.lock)
    assert definition["internalParameters"]["stage_keys"] == KEYS


def test_when_the_build_ran_is_known_from_its_record(maker: Maker) -> None:
    about = maker.subject
    built = Record(
        stage="build", key="1", inputs={}, result={}, seconds=60, created_s=1767225660, run_id="r7"
    )
    found = provenance(about.release, about.lock, build(), opened={}, stage_keys=KEYS, built=built)[
        "runDetails"
    ]
    assert found["metadata"] == {
        "invocationId": "r7",
        "startedOn": "2026-01-01T00:00:00Z",
        "finishedOn": "2026-01-01T00:01:00Z",
    }
    assert made(maker)["runDetails"]["metadata"] == {}


def test_a_git_source_is_named_by_commit_and_tree() -> None:
    project = find_project(builtin_root())
    about = subject(project, project.release(RELEASE), Site())
    commit, tree = "1" * 40, "2" * 40
    source = LockedSource(
        kind="git", identity=f"https://example.org/a.git@{commit}", commit=commit, tree=tree
    )
    lock = about.lock.model_copy(update={"sources": {"a": source}, "patches": {}})
    found = provenance(about.release, lock, build(), opened={}, stage_keys={}, built=None)
    assert {
        "name": "source/a",
        "uri": f"git+https://example.org/a.git@{commit}",
        "digest": {"gitCommit": commit, "gitTree": tree},
    } in found["buildDefinition"]["resolvedDependencies"]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (("flag_gems", "5.0.2", None), "pkg:pypi/flag-gems@5.0.2"),
        (("torch", "2.13.0+cpu", None), "pkg:pypi/torch@2.13.0%2Bcpu"),
        (("A", "1", "a-1-py3.whl"), "pkg:pypi/a@1?file_name=a-1-py3.whl"),
    ],
)
def test_package_urls(given: tuple[str, str, str | None], url: str) -> None:
    assert purl(*given) == url


def test_smoke_is_a_test_result_with_its_evidence(maker: Maker) -> None:
    upstream = maker.results()
    found = dict(said(upstream))
    result = found[predicates.TEST_RESULT]
    assert result["result"] == "PASSED"
    assert result["passedTests"] == ["health"]
    assert result["failedTests"] == []
    assert result["configuration"][0]["digest"] == {"sha256": KEYS["smoke"]}
    assert result["evidence"] == [
        {"name": "evidence/server.log", "digest": {"sha256": sha256(b"log\n")}},
        {"name": "evidence/smoke.json", "digest": {"sha256": sha256(b'{"verdict":"pass"}')}},
    ]


def test_what_was_not_run_says_so_with_the_reason(maker: Maker) -> None:
    found = dict(said(maker.results()))
    assert found[predicates.EVALUATION] == {
        "verdict": "not-run",
        "reason": "nobody asked",
        "evidence": [],
    }
    assert found[predicates.BENCHMARK]["reason"] == "it was not run"
    assert predicates.VULNERABILITIES not in found


def test_figures_and_what_a_stage_says_itself(maker: Maker) -> None:
    store = Store(maker.root / "home")
    evaluated = EvaluateResult(
        verdict="pass", reason="non-inferior", tasks=(FIGURES,), conclusion="non-inferior",
        seconds=1, outputs=(store.put_blob(b"answers"), store.put_blob(b"log")),
    )  # fmt: skip
    found = dict(said({**maker.results(), "evaluate": evaluated}))
    evaluation = found[predicates.EVALUATION]
    assert evaluation["tasks"][0]["result_correct"] == 935
    assert evaluation["conclusion"] == "non-inferior"
    names = [one["name"] for one in evaluation["evidence"]]
    assert names == ["evidence/evaluation.json", "evidence/logs/evaluate.log"]
    assert found[predicates.CONTENT_SCAN]["verdict"] == "pass"
    assert predicates.VULNERABILITIES not in found


def test_what_a_scanner_found_is_a_predicate_of_its_own(maker: Maker) -> None:
    known = Vulnerabilities(
        state="run", reason="1 high", image_digest="sha256:1", scanner="grype", version="0.80.0",
        database="2026-01-01T00:00:00Z", started="2026-01-02T00:00:00Z",
        finished="2026-01-02T00:00:09Z", counts={"high": 1},
        found=(
            Vulnerability(
                id="CVE-1", package="openssl", version="3.0", severity="high", fixed_in=("3.1",)
            ),
        ),
    )  # fmt: skip
    upstream = maker.results()
    scan = upstream["scan"]
    assert isinstance(scan, ScanResult)
    ran = VulnerabilityState(state="run", reason="1 high", scanner="grype")
    file = Store(maker.root / "home").put_blob(canonical_json(known))
    scan = scan.model_copy(update={"vulnerabilities": ran, "outputs": (scan.outputs[0], file)})
    found = dict(said({**upstream, "scan": scan}))[predicates.VULNERABILITIES]
    scanner = found["scanner"]
    assert scanner["uri"] == "pkg:github/anchore/grype@0.80.0"
    assert scanner["db"]["lastUpdate"] == "2026-01-01T00:00:00Z"
    (row,) = scanner["result"]
    assert row["id"] == "CVE-1"
    assert row["severity"] == [{"method": "grype", "score": "high"}]
    assert row["annotations"] == [{"package": "openssl", "version": "3.0", "fixed_in": ["3.1"]}]
    assert found["metadata"]["scanFinishedOn"] == "2026-01-02T00:00:09Z"


def test_the_bundle_and_the_bills_reach_the_statements(maker: Maker) -> None:
    result = maker.attest(maker.results())
    assert result.kinds[1:3] == (predicates.SPDX, predicates.CYCLONEDX)
    payload = dsse.parse(result.envelopes[1].path.read_bytes()).payload
    assert b'"spdxVersion":"SPDX-2.3"' in payload
    assert result.signed is not None
    assert result.signed.keyid == maker.key.keyid
    assert maker.key.keyid in result.reason


def test_names_of_envelopes() -> None:
    assert predicates.envelope_name(predicates.TEST_RESULT) == "smoke.dsse.json"
    assert predicates.envelope_name("https://example.org/a b/v1") == "b-v1.dsse.json"


def said(upstream: dict[str, StageResult]) -> list[tuple[str, dict[str, Any]]]:
    return list(
        result_predicates(
            upstream,
            evidence_of(upstream),
            stage_keys=KEYS,
            skipped={"evaluate": "nobody asked"},
        )
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
