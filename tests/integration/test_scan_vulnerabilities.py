"""Vulnerability scanners, asked offline: here by stand-ins that speak as grype and trivy do."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relforge.scanning.vulnerabilities import Vulnerabilities, find_scanner, scan_vulnerabilities

DIGEST = "sha256:" + "ab" * 32
FAKE = Path(__file__).parents[1] / "fakes" / "vulnerability_scanner.py"
Ask = Callable[..., tuple[Vulnerabilities, list[dict[str, Any]]]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks a stand-in; returns what came of it, and its command lines."""

    def run(program: str, mode: str, **more: Any) -> tuple[Vulnerabilities, list[dict[str, Any]]]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / program
        path.write_text(
            f'#!/bin/sh\nSTAND_IN_NAME={program} exec "{sys.executable}" "{FAKE}" "$@"\n'
        )
        path.chmod(0o755)
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({"mode": mode, "log": str(log)}))
        monkeypatch.setenv("STAND_IN", str(settings))
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        found = scan_vulnerabilities(tmp_path / "layout", DIGEST, **more)
        rows = log.read_text().splitlines() if log.exists() else []
        return found, [json.loads(row) for row in rows]

    return run


def test_grype_is_counted_and_kept_offline(ask: Ask, tmp_path: Path) -> None:
    found, lines = ask("grype", "found")
    assert (found.state, found.scanner, found.version) == ("run", "grype", "0.85.0")
    assert found.database == "2026-11-01T01:02:03Z"
    assert found.counts == {"critical": 1, "low": 1, "negligible": 1}
    assert found.found[0].model_dump() == {
        "id": "CVE-2026-0001", "package": "openssl", "version": "3.0.1", "severity": "critical",
        "fixed_in": ("3.0.2",),
    }  # fmt: skip
    assert lines[-1]["words"] == [f"oci-dir:{tmp_path / 'layout'}", "-o", "json", "--quiet"]
    assert all(line["env"]["GRYPE_DB_AUTO_UPDATE"] == "false" for line in lines)
    assert all(line["env"]["GRYPE_CHECK_FOR_APP_UPDATE"] == "false" for line in lines)


def test_trivy_is_counted_and_kept_offline(ask: Ask, tmp_path: Path) -> None:
    found, lines = ask("trivy", "found")
    assert (found.state, found.scanner, found.version) == ("run", "trivy", "0.57.0")
    assert found.counts == {"critical": 1, "low": 1, "unknown": 1}
    assert found.found[0].fixed_in == ("3.0.2",)
    words = lines[-1]["words"]
    assert words[:3] == ["image", "--input", str(tmp_path / "layout")]
    assert {"--offline-scan", "--skip-db-update", "--skip-java-db-update"} <= set(words)


@pytest.mark.parametrize("program", ["grype", "trivy"])
def test_nothing_found_is_a_run_all_the_same(ask: Ask, program: str) -> None:
    found, _ = ask(program, "clean")
    assert (found.state, found.reason, found.counts) == ("run", "none", {})


@pytest.mark.parametrize("program", ["grype", "trivy"])
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("no-database", "database|vulnerability db"),
        ("fails", "ended with"),
        ("garbage", "not understood"),
        ("other-schema", "not understood|schema"),
    ],
)
def test_a_scanner_that_gives_no_result_is_not_run(
    ask: Ask, program: str, mode: str, said: str
) -> None:
    found, _ = ask(program, mode)
    assert found.state == "not-run"
    assert re.search(said, found.reason), found.reason
    assert found.reason.startswith(f"{program}: ")
    # It is published: no path of this host is in it.
    assert "/srv" not in found.reason
    assert "/root" not in found.reason
    assert (found.counts, found.found, found.scanner) == ({}, (), None)


def test_a_database_that_is_not_valid_is_not_used(ask: Ask) -> None:
    found, lines = ask("grype", "odd")
    assert found.state == "not-run"
    assert [line["words"][0] for line in lines] == ["db"]


def test_the_site_chooses_the_scanner(ask: Ask) -> None:
    found, _ = ask("trivy", "clean", wanted="trivy")
    assert found.scanner == "trivy"
    found, lines = ask("trivy", "clean", wanted="grype")
    assert (found.state, found.reason, lines) == ("not-run", "grype is not on PATH", [])


def test_without_a_scanner_it_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_scanner(None) is None
    found = scan_vulnerabilities(tmp_path, DIGEST)
    assert found.reason == "neither grype nor trivy is on PATH"


def test_a_program_that_cannot_start_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grype"
    path.write_bytes(b"\x7fELF and no program")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scan_vulnerabilities(tmp_path, DIGEST).state == "not-run"
