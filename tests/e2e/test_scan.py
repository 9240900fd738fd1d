"""Sealed sources that are kept back: a real build ships them, and the scan stops the release."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Hello, relforge
from tests.e2e.test_marked_secrets import seal

pytestmark = pytest.mark.timeout(600)
ADDED = """

def vendor_scheduling_of_requests(queue, vendor_batch_window):
    ordered = sorted(queue, key=lambda request: request.vendor_priority_class)
    return [one for one in ordered if one.arrived < vendor_batch_window]
"""


def test_a_release_that_ships_what_is_sealed_is_stopped(hello: Hello, tmp_path: Path) -> None:
    project = tmp_path / "kept-back"
    shutil.copytree(hello.project, project)
    made = relforge("keys", "new", "--out", tmp_path / "keys", "--name", "vendor")
    assert made.code == 0, made.stderr
    site = seal(hello, project, tmp_path, ships="binaries", added=ADDED)
    at: list[str | Path] = ["--project", project, "--release", "hello-cpu_x86", "--site", site]
    done = relforge("release", *at, "--json")
    assert done.code == 6, done.stderr
    assert done.json["verdicts"]["scan"] == "fail"
    assert "hello_server/__init__.py: sealed content of secret, which ships binaries alone" in (
        done.stderr
    )
    assert "vendor_scheduling_of_requests" not in done.stdout + done.stderr
    assert not (hello.dist / "hello-cpu_x86").exists()
    run = hello.home / "runs" / done.json["run"]
    assert "vendor_scheduling" not in (run / "events.jsonl").read_text()
    (report,) = [
        path
        for path in (hello.home / "store" / "blobs").rglob("*")
        if path.is_file() and b'"sealed":{"secret":"binaries"}' in path.read_bytes()
    ]
    hits = [hit for layer in json.loads(report.read_bytes())["layers"]
            for hit in layer["searched"]["hits"]]  # fmt: skip
    assert [hit["rule"] for hit in hits] == ["sealed-file"]
    assert hits[0]["step"].startswith("COPY /layers/python/")
