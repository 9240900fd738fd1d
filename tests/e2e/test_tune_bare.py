"""The bare tuning with real torch: in the image, on the CPU, with stand-ins for operators."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relforge.tuning.evidence import load_tuning
from tests.e2e.conftest import CHECKOUT

pytestmark = pytest.mark.timeout(900)


def bare(image: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    out.mkdir(exist_ok=True)
    out.chmod(0o777)  # the image's own user writes
    return subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python",
         "--volume", f"{CHECKOUT}/relforge:/probe/relforge:ro",
         "--volume", f"{CHECKOUT}/tests/fakes/gems_on_cpu/flag_gems:/probe/flag_gems:ro",
         "--volume", f"{out}:/out", "--env", "PYTHONPATH=/probe",
         "--env", "PYTHONDONTWRITEBYTECODE=1", image, "-m", "relforge.tuning.bare",
         "--device", "cpu", "--dtype", "float32", "--out", "/out/tuning.json", *words],
        capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image(record: dict[str, Any]) -> str:
    return str(record["results"]["build"]["image_name"])


def test_planted_mistakes_are_found_and_nothing_else(image: str, tmp_path: Path) -> None:
    done = bare(image, tmp_path / "out", "--plant", "silu,cos+sin", "--used-first")
    assert done.returncode == 0, done.stderr
    loaded = load_tuning(tmp_path / "out" / "tuning.json")
    found = loaded.tuning
    assert found.state == "done"
    assert "silu" in found.culprits
    assert len(found.culprits) == 2
    (clash,) = found.interactions
    assert {clash.operator, *clash.others} == {"cos", "sin"}
    assert found.confirmed
    assert found.smallest
    first = found.evaluations[0]
    assert first.found.outcome == "fail"
    assert first.found.n == 272
    assert loaded.subject["planted"] == ["cos+sin", "silu"]
    # Of 36 operators those that the decoder runs were seen, and enough to clear the others.
    assert {"silu", "cos", "sin", "mm", "rsqrt"} == set(_suspects(tmp_path))


def test_without_mistakes_nothing_fails(image: str, tmp_path: Path) -> None:
    done = bare(image, tmp_path / "out")
    assert done.returncode == 6, done.stderr
    assert load_tuning(tmp_path / "out" / "tuning.json").tuning.state == "nothing-fails"


def _suspects(tmp_path: Path) -> list[str]:
    read: dict[str, Any] = json.loads((tmp_path / "out" / "tuning.json").read_text())
    suspects: list[str] = read["suspects"]
    return suspects
