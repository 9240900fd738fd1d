"""The coverage probe where it is meant to run: in the image, with torch and nothing of relforge."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relforge.coverage.evidence import load_coverage
from relforge.coverage.summary import NotRun
from tests.e2e.conftest import CHECKOUT, relforge

PASSES = 3  # the prompt and two decode steps


@pytest.fixture(scope="module")
def image(record: dict[str, Any]) -> str:
    return str(record["results"]["build"]["image_name"])


def python(image: str, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "run", "--rm", "--interactive", "--network", "none", "--entrypoint", "python",
         "--volume", f"{CHECKOUT}/relforge:/probe/relforge:ro",
         "--volume", f"{CHECKOUT}/examples/tiny-adder:/model:ro",
         "--env", "PYTHONPATH=/probe", "--env", "PYTHONDONTWRITEBYTECODE=1", image, *words],
        capture_output=True, text=True, check=False, timeout=300, input=given,
    )  # fmt: skip


def probe(image: str, *words: str) -> subprocess.CompletedProcess[str]:
    module = "relforge.coverage.probe"
    return python(image, "-m", module, "--decode-steps", str(PASSES - 1), *words)


@pytest.mark.timeout(600)
def test_it_counts_what_the_decoder_dispatches_and_claims_nothing_else(
    image: str, tmp_path: Path
) -> None:
    done = probe(image)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "coverage.json"
    path.write_text(done.stdout)
    evidence = load_coverage(path)
    calls = {operator.name: operator.calls for operator in evidence.main.operators}
    layers = int(evidence.model.shape["layers"])
    # Projections with a bias (q, k, v); o, gate, up and down, and the head; two norms a layer.
    assert calls["aten::addmm"] == 3 * layers * PASSES
    assert calls["aten::mm"] == (4 * layers + 1) * PASSES
    assert calls["aten::rsqrt"] == (2 * layers + 1) * PASSES
    assert calls["aten::silu"] == layers * PASSES
    assert calls["aten::embedding"] == calls["aten::argmax"] == PASSES
    assert calls["aten::index_copy_"] == 2 * layers * PASSES
    reason = NotRun(not_run="no accelerator")
    parts = (evidence.flag_gems, evidence.shares, evidence.accuracy, evidence.agreement)
    assert parts == (reason,) * 4
    assert all(operator.device is None for operator in evidence.main.operators)
    assert probe(image).stdout == done.stdout, "the same run gives the same bytes"
    shown = relforge("coverage", "--evidence", path, "--json")
    assert shown.code == 0, shown.stderr
    assert len(shown.json["operators"]) == len(calls)


def test_operators_are_compared_on_the_same_inputs_and_faults_are_seen(image: str) -> None:
    program = CHECKOUT / "tests" / "support" / "coverage_program.py"
    done = python(image, "-", given=program.read_text())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rows = {row["call"].split("(")[0].removeprefix("aten::"): row for row in told["rows"]}
    assert set(rows) == {"silu", "add_.Tensor", "sin", "neg", "rsqrt"}
    for right in ("silu", "add_.Tensor"):
        assert rows[right]["elements"] == 20
        assert rows[right]["max_abs_error"] < 1e-6
        assert rows[right]["relative_error"] < 1e-6
        assert rows[right]["error"] is None
    assert 0.01 < rows["sin"]["max_abs_error"] < 1, "cos(x - 1.5) is not quite sin(x)"
    assert rows["sin"]["non_finite_mismatches"] > 0
    assert "the results differ in kind: torch.float32" in rows["neg"]["error"]
    assert rows["rsqrt"]["error"] == "FlagGems: ValueError: this size is unsupported"
    # One that torch did not take counts as little as one that was left out.
    assert told["registered"] == ["add_.Tensor", "neg", "rsqrt", "sin"]
    assert told["inputs_kept"]
    assert told["native_again"]
    assert (told["strides"], told["offsets"]) == ([[1, 5], [1, 5]], [20, 0])
    assert told["one_memory"]
    assert told["own_memory"]


@pytest.mark.timeout(600)
def test_it_takes_the_model_of_a_folder(image: str) -> None:
    done = probe(image, "--model", "/model", "--attention", "eager")
    assert done.returncode == 0, done.stderr
    evidence = json.loads(done.stdout)
    config = json.loads((CHECKOUT / "examples" / "tiny-adder" / "config.json").read_text())
    calls = {row["name"]: row["calls"] for row in evidence["native"]["operators"]}
    assert evidence["model"]["name"] == "model"
    assert calls["aten::silu"] == config["num_hidden_layers"] * PASSES
    assert calls["aten::_softmax"] == config["num_hidden_layers"] * PASSES


def test_in_inference_mode_composites_fall_apart_and_custom_operators_are_opened(
    image: str,
) -> None:
    program = CHECKOUT / "tests" / "support" / "coverage_watch_program.py"
    done = python(image, "-", given=program.read_text())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    linear = ["_own::scale", "aten::t", "aten::addmm"]
    assert told["opened"] == ["vllm::attention", "aten::mm", "aten::add_.Tensor", *linear]
    assert told["closed"] == ["vllm::attention", *linear]
    # 3 columns of (2 * (eye + 1)) summed along rows of ones, and a bias of 1.
    assert told["sum"] == 3 * 4 * (2 * 5 + 1)
    assert told["same"], "what is watched computes the same"


def test_where_no_gpu_is_asking_for_one_says_so(image: str) -> None:
    done = probe(image, "--device", "cuda")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("error: torch sees no CUDA device\n")
