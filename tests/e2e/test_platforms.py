"""An image for two architectures through the whole pipeline, on an engine that runs one of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from relforge.engine.layout import describe
from tests.e2e.conftest import Hello, relforge
from tests.support.published import make_image

pytestmark = pytest.mark.timeout(600)
REFERENCE = "registry.example.org/waiting/hello"


def test_what_was_tested_here_and_what_came_from_elsewhere_are_one_release(
    hello: Hello, tmp_path: Path
) -> None:
    other = make_image(
        tmp_path / "arm", layers=({"opt/hello": b"arm"},), labels={"a": "b"}, architecture="arm64"
    )
    manifest = hello.project / "manifests/releases/hello-cpu_x86.yaml"
    text = manifest.read_text()
    also = f"{{architecture: arm64, reference: {REFERENCE}, digest: '{other.digest}'}}"
    assert text.count("\nbuild:\n") == 1
    manifest.write_text(text.replace("\nbuild:\n", f"\nbuild:\n  also: [{also}]\n"))
    policy = tmp_path / "policy.yaml"
    assert relforge("keys", "new", "--out", tmp_path, "--name", "maker").code == 0
    site = hello.other_site(
        tmp_path / "two.yaml",
        images={REFERENCE: str(tmp_path / "arm")},
        publish={"signing": {"key": str(tmp_path / "maker.sign.pem")}},
        trusted_keys=[{"name": "maker", "public_key": str(tmp_path / "maker.sign.pub.pem")}],
    )
    done = hello.run("release", "--json", site=site)
    assert done.code == 0, done.stderr
    folder = hello.dist / "hello-cpu_x86"
    facts = describe(folder / "image")
    assert facts.platforms == ("linux/amd64", "linux/arm64")
    assert done.json["image_digest"] == facts.digest
    record = json.loads((folder / "release.json").read_text())
    # What was started is the architecture of this host, by its own digest.
    assert record["results"]["smoke"]["report"]["image_id"] == facts.alone.digest
    assert record["verdicts"]["smoke"] == record["verdicts"]["evaluate"] == "pass"

    # Nobody tested the other one.
    policy.write_text("kind: policy\n")
    key = tmp_path / "maker.sign.pub.pem"
    words = ("verify", folder, "--key", key, "--policy", policy, "--json")
    refused = relforge(*words)
    assert refused.code != 0
    failed = [one for one in refused.json["checks"] if one["verdict"] == "fail"]
    assert [one["check"] for one in failed] == ["policy.platforms"]
    assert "linux/arm64: its image is signed by 0 of the keys" in failed[0]["reason"]
    assert "linux/arm64: smoke is not-run" in failed[0]["reason"]
    with policy.open("a") as sink:
        sink.write("untested_platforms: {linux/arm64: there is no host of it yet}\n")
    assert relforge(*words).code == 0

    # The same again does nothing; the part that is built here can be built again.
    again = hello.run("release", "--json", site=site)
    assert {s["status"] for s in again.json["stages"]} <= {"reused", "skipped"}
    rebuilt = hello.run("rebuild", "--check", "--json", site=site)
    assert rebuilt.code == 0, rebuilt.stderr
    assert rebuilt.json["compared"]["identical"]

    # The folder's own commands start it; `relforge verify` there knows another site's keys.
    card = relforge(
        "card", "test", folder, "--image", facts.digest, "--yes", "--json",
        env={"RELFORGE_SITE": str(site)},
    )  # fmt: skip
    verdicts = {step["name"]: step["verdict"] for step in card.json["steps"]}
    assert {n for n, v in verdicts.items() if v == "pass"} >= {"load", "start", "request", "stop"}
    subprocess.run(["docker", "image", "rm", "-f", facts.digest], capture_output=True, check=False)
