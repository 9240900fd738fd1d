"""The stage and the last look before a push: what blocks, what is evidence, what is reused."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.events import Event, StageLine
from relforge.evidence.store import Store
from relforge.manifest.publishing import ContentPolicy, PublishSite
from relforge.manifest.site import HubSite, HubsSite, Site
from relforge.scanning.folder import require_clean, scan_published
from relforge.stage import Job, StageContext, StageEnv, StageResult
from relforge.stages.build import BuildResult
from relforge.stages.render import RenderResult
from relforge.stages.scan import Scan, ScanInputs, ScanResult, require_shippable
from tests.support.published import make_published
from tests.support.scanned import make_layout, random_text

TOKEN = "glpat-" + random_text(20)


def run(
    tmp_path: Path,
    *layers: Mapping[str, bytes],
    site: Site | None = None,
    dockerfile: bytes = b"FROM scratch\n",
    lines: list[str] | None = None,
) -> ScanResult:
    layout = tmp_path / "layout"
    if not layout.exists():
        make_layout(layout, *layers)
    from relforge.engine.layout import describe

    facts = describe(layout)
    build = BuildResult(
        layout=layout, image_name="x:1", image_digest=facts.digest,
        config_digest=facts.config_digest, compressed_bytes=1, unpacked_bytes=1,
        architecture="amd64", created="", labels={}, layers=(), base_how="", base_digest="",
        packages=(), python=None, python_packages={}, debian_packages={}, pip_check=(), rebuild="",
    )  # fmt: skip
    home = tmp_path / "home"
    render = RenderResult(lines=1, outputs=(Store(home).put_blob(dockerfile),))
    env = StageEnv(
        home=home, project_roots=(tmp_path / "project",), site=site or Site(), run_id="r",
        run_dir=tmp_path / "run", release="x-cpu_x86", dist=tmp_path / "dist",
    )  # fmt: skip
    inputs = ScanInputs(
        build_key="b", evidence_keys={}, kept_back=(), vulnerability_scanner=None, scanner="s"
    )
    said = lines if lines is not None else []

    def emit(event: Event) -> None:
        if isinstance(event, StageLine):
            said.append(event.text)

    upstream: dict[str, StageResult] = {"build": build, "render": render}
    job = Job("scan", "k", inputs, upstream, env)
    return Scan().run(job, StageContext("x-cpu_x86", "scan", CancelToken(), emit))


def report_of(result: ScanResult) -> dict[str, object]:
    found: dict[str, object] = json.loads(result.evidence()["content-scan.json"].read_bytes())
    return found


def test_a_clean_image_passes_and_says_what_was_searched(tmp_path: Path) -> None:
    result = run(tmp_path, {"a": b"1"}, {"b": b"22"})
    assert result.verdict == "pass"
    assert result.reason.startswith("nothing found in 5 files")
    assert sorted(result.evidence()) == ["content-scan.json"]
    assert result.vulnerabilities.state == "not-run"
    report = report_of(result)
    assert report["format"] == "relforge.content-scan/1"
    assert report["image_digest"] == result.image_digest
    assert set(report["detectors"]) == {"ahocorasick-rs", "bc-detect-secrets"}  # type: ignore[call-overload]


def test_the_report_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = run(tmp_path / "a", {"a": b"1", "b": TOKEN.encode()})
    again = run(tmp_path / "b", {"a": b"1", "b": TOKEN.encode()})
    cached = run(tmp_path / "a")
    assert first.outputs[0].sha256 == again.outputs[0].sha256 == cached.outputs[0].sha256


def test_a_hit_in_a_layer_fails_with_its_place(tmp_path: Path) -> None:
    lines: list[str] = []
    result = run(tmp_path, {"a": b"1"}, {"srv/env": f"A={TOKEN}\n".encode()}, lines=lines)
    assert (result.verdict, result.hits) == ("fail", 1)
    assert "/srv/env, line 1: a GitLab token (layer sha256:" in result.reason
    assert any("/srv/env" in line for line in lines)
    assert TOKEN not in result.model_dump_json() + json.dumps(report_of(result)) + "".join(lines)


def test_a_hit_in_evidence_fails_with_its_name(tmp_path: Path) -> None:
    result = run(tmp_path, {"a": b"1"}, dockerfile=f"FROM x\nENV A={TOKEN}\n".encode())
    assert result.verdict == "fail"
    assert "/evidence/Dockerfile, line 2: a GitLab token" in result.reason


def test_the_home_of_relforge_and_the_project_are_paths_of_the_host(tmp_path: Path) -> None:
    text = f"{tmp_path / 'home' / 'runs'} and {tmp_path / 'project' / 'x'}".encode()
    result = run(tmp_path, {"a": text})
    assert "/a, line 1: a path of the host that built" in result.reason


def test_what_the_site_denies_is_looked_for_and_not_published(tmp_path: Path) -> None:
    policy = ContentPolicy(deny_hosts=("corp.dev",), deny_words=("Falcon",))
    site = Site(publish=PublishSite(content=policy))
    clean = run(tmp_path / "a", {"a": b"1"}, site=site)
    assert clean.verdict == "pass"
    assert "corp.dev" not in json.dumps(report_of(clean)) + clean.model_dump_json()
    assert run(tmp_path / "b", {"a": b"git.corp.dev"}, site=site).verdict == "fail"
    assert run(tmp_path / "c", {"a": b"project falcon"}, site=site).verdict == "fail"


def test_other_values_of_the_site_search_known_layers_again(tmp_path: Path) -> None:
    value = random_text(24)
    assert run(tmp_path, {"a": f"x {value}".encode()}).verdict == "pass"
    (tmp_path / "token").write_text(value)
    site = Site(hubs=HubsSite(huggingface=HubSite(token_file=tmp_path / "token")))
    result = run(tmp_path, site=site)
    assert result.verdict == "fail"
    assert "the very value of hubs.huggingface.token_file" in result.reason
    assert value not in result.model_dump_json()
    kept = [p for p in (tmp_path / "home").rglob("*") if p.is_file()]
    assert not [p for p in kept if value.encode() in p.read_bytes()]


def shippable(tmp_path: Path, scan: StageResult | None, **files: bytes) -> None:
    paths = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        paths[name] = tmp_path / name
    env = StageEnv(
        home=tmp_path / "home", project_roots=(), site=Site(), run_id="r", run_dir=tmp_path,
        release="x-cpu_x86", dist=tmp_path,
    )  # fmt: skip
    require_shippable(env, "sha256:" + "a" * 64, scan, paths)


def test_only_the_scanned_image_is_shippable(tmp_path: Path) -> None:
    passed = run(tmp_path / "x", {"a": b"1"})
    ours = passed.model_copy(update={"image_digest": "sha256:" + "a" * 64})
    shippable(tmp_path, ours, card=b"fine")
    for scan in (None, passed, ours.model_copy(update={"verdict": "fail", "reason": "a key"})):
        with pytest.raises(RelforgeError, match="did not pass on this image") as caught:
            shippable(tmp_path, scan)
        assert caught.value.code is ExitCode.GATE
    with pytest.raises(RelforgeError, match="must not be read elsewhere") as caught:
        shippable(tmp_path, ours, card=TOKEN.encode())
    assert "/card, line 1: a GitLab token" in str(caught.value)
    assert TOKEN not in str(caught.value)


def scan_report(verdict: str, digest: str) -> bytes:
    return json.dumps({"verdict": verdict, "image_digest": digest}).encode()


def test_a_published_folder_is_searched_beside_its_layers(tmp_path: Path) -> None:
    envelope = {
        "payloadType": "application/vnd.in-toto+json",
        "payload": base64.b64encode(f'{{"a": "{TOKEN}"}}'.encode()).decode(),
        "signatures": [],
    }
    published = make_published(
        tmp_path,
        python=TOKEN.encode(),  # layers were searched before
        evidence={"x.json": TOKEN.encode(), "signed.json": json.dumps(envelope).encode()},
        weights={"config.json": b"{}"},
    )
    readme = published.folder / "README.md"
    readme.write_text(readme.read_text() + f"\n{tmp_path / 'home' / 'x'}\n")
    found = scan_published(published.folder, Site(), home=tmp_path / "home")
    assert {(hit.path, hit.kind) for hit in found} == {
        ("/evidence/x.json", "secret"),
        ("/evidence/signed.json!payload", "secret"),
        ("/README.md", "home-path"),
    }


def test_a_folder_is_clean_when_its_image_passed_and_nothing_is_found(tmp_path: Path) -> None:
    digest = make_published(tmp_path, dist=tmp_path / "first").image_digest
    good = make_published(
        tmp_path,
        dist=tmp_path / "good",
        evidence={"content-scan.json": scan_report("pass", digest)},
    )
    assert good.image_digest == digest
    require_clean(good.folder, Site(), home=tmp_path / "home")
    for name, report in {
        "none": None,
        "failed": scan_report("fail", digest),
        "another": scan_report("pass", "sha256:" + "0" * 64),
        "broken": b"[]",
    }.items():
        evidence = {} if report is None else {"content-scan.json": report}
        bad = make_published(tmp_path, dist=tmp_path / name, evidence=evidence)
        with pytest.raises(RelforgeError, match="did not pass on this image") as caught:
            require_clean(bad.folder, Site(), home=tmp_path / "home")
        assert caught.value.code is ExitCode.GATE
    (good.folder / "evidence" / "server.log").write_text(TOKEN)
    with pytest.raises(RelforgeError, match="must not be read elsewhere"):
        require_clean(good.folder, Site(), home=tmp_path / "home")


def test_what_a_scanner_found_is_evidence_that_a_policy_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relforge.verifying.vulnerabilities import findings_of

    program = tmp_path / "bin" / "grype"
    program.parent.mkdir()
    status = '{"valid": true, "built": "2026-11-01"}'
    found = {
        "descriptor": {"version": "1"},
        "matches": [
            {
                "vulnerability": {"id": "CVE-1", "severity": "High"},
                "artifact": {"name": "zlib", "version": "1.2"},
            }
        ],
    }
    program.write_text(
        f"#!/bin/sh\ncase $1 in db) echo '{status}';; *) echo '{json.dumps(found)}';; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    result = run(tmp_path, {"a": b"1"})
    assert (result.verdict, result.vulnerabilities.counts) == ("pass", {"high": 1})
    report = json.loads(result.evidence()["vulnerabilities.json"].read_bytes())
    assert [one.shown() for one in findings_of(report)] == ["CVE-1 (high) in zlib 1.2"]
    (predicate,) = result.attested().values()
    assert predicate["scanner"]["result"][0]["id"] == "CVE-1"
    assert predicate["scanner"]["db"]["lastUpdate"] == "2026-11-01"
    assert predicate["metadata"]["scanFinishedOn"] == report["finished"]
