"""What our patch set for vLLM is good for: without it the server fails, and smoke says why."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.lock import Lock, dump_lock, request_key
from relforge.manifest.loader import load
from relforge.manifest.project import find_project
from relforge.manifest.release import Release
from relforge.manifest.smoke import Smoke
from relforge.serving.smoke import run_smoke
from relforge.serving.spec import launch_spec
from tests.e2e.conftest import CHECKOUT, containers, relforge, write_site

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif("RELFORGE_LONG" not in os.environ, reason="minutes: RELFORGE_LONG=1"),
]
UNPATCHED = "tiny-adder-cpu_x86-unpatched"


def unpatched_project(root: Path) -> Path:
    """The release without its patch set, with the lock that follows from the shipped one."""
    releases = root / "manifests" / "releases"
    releases.mkdir(parents=True)
    shipped = CHECKOUT / "manifests" / "releases"
    data: dict[str, Any] = yaml.safe_load((shipped / "tiny-adder-cpu_x86.yaml").read_text())
    data |= {"name": UNPATCHED, "variant": "unpatched", "patches": []}
    (releases / f"{UNPATCHED}.yaml").write_text(yaml.safe_dump(data))
    release = Release.model_validate(data)
    device = find_project(root).device("cpu_x86")
    lock = load(shipped / "tiny-adder-cpu_x86.lock.yaml", Lock)
    changed = {"release": UNPATCHED, "patches": {}, "request": request_key(release, device)}
    (releases / f"{UNPATCHED}.lock.yaml").write_bytes(dump_lock(lock.model_copy(update=changed)))
    return root


def test_the_unpatched_tree_fails_smoke_with_the_right_cause(tmp_path: Path) -> None:
    project = unpatched_project(tmp_path / "project")
    site = write_site(tmp_path / "site.yaml", dist=str(tmp_path / "dist"))
    done = relforge(
        "release", "--project", project, "--release", UNPATCHED, "--site", site, "--json"
    )
    assert done.code == 6, done.stderr
    # The tree takes one of three builds of its kernels along, that for AVX-512 BF16.
    has_its_kernels = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    cause = "slot-mapping kernel" if has_its_kernels else "init_cpu_memory_env"
    assert cause in done.stderr
    assert done.json["verdicts"] == {"smoke": "fail"}
    assert not (tmp_path / "dist" / UNPATCHED).exists(), "what failed its gate is not published"
    assert containers() == []


def test_a_head_size_that_cpu_attention_lacks_is_refused_at_start(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    # The image itself has torch, so the random model is made in it.
    out = tmp_path / "out"
    out.mkdir()
    image = record["results"]["build"]["image_name"]
    subprocess.run(
        ["docker", "run", "--rm", "--user", "0", "--entrypoint", "python",
         "-v", f"{CHECKOUT}/scripts:/scripts:ro", "-v", f"{out}:/out", image,
         "/scripts/train_tiny_adder.py", "--random-head-dim", "16", "--out", "/out/model"],
        check=True, capture_output=True,
    )  # fmt: skip
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["head_dim"] == 16
    project = find_project(CHECKOUT)
    release = project.release("tiny-adder-cpu_x86")
    spec = launch_spec(
        release, project.device("cpu_x86"), image=image, weights=out / "model", name="head16"
    )
    engine = connect()
    try:
        report = run_smoke(
            spec, engine, reference=(), settings=Smoke(), run_id="head16",
            log_path=tmp_path / "server.log", cancel=CancelToken(),
        )  # fmt: skip
    finally:
        engine.close()
    assert report.verdict == "fail"
    assert report.start_to_ready_s is None, "refused at start, not at the first request"
    assert report.cause is not None
    assert "Head size 16 is not supported by CPU attention" in report.cause.evidence
    assert containers() == []
