"""The coverage stage: what it is given, what it makes of a probe's end, and when it is skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.cli.dispatch import dispatch
from relforge.coverage.container import MODULE, ProbeEnd, probe_files
from relforge.coverage.probe.vllm_forward import stored_parameters
from relforge.coverage.summary import NotRun, Shares
from relforge.engine.container_spec import ContainerState
from relforge.errors import ExitCode
from relforge.evidence.store import Store
from relforge.manifest.project import Project, builtin_root, find_project
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.stages.coverage import CoverageInputs, CoverageResult, _result
from tests.unit.test_coverage_owners import served

ROOT = builtin_root()
REAL = "tiny-adder-cpu_x86"
PASSED = ContainerState(status="exited", exit_code=0)


def planned(project: Project, name: str, home: Path) -> ReleasePlan:
    return make_plan(subject(project, project.release(name), Site()), STAGES, Store(home))


def because(plan: ReleasePlan) -> str:
    return next(stage.because for stage in plan.stages if stage.name == "coverage")


def changed(tmp_path: Path, change: dict[str, Any]) -> Project:
    """This repository's project, with another manifest of the real release."""
    for folder in ("manifests", "patches", "dockerfiles", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = tmp_path / "manifests" / "releases" / f"{REAL}.yaml"
    made = {**yaml.safe_load(path.read_text()), **change}
    path.write_text(yaml.safe_dump(made, sort_keys=False))
    return find_project(tmp_path)


def test_the_probe_gets_the_options_of_the_server(tmp_path: Path) -> None:
    plan = planned(find_project(ROOT), REAL, tmp_path)
    inputs = plan.inputs["coverage"]
    assert isinstance(inputs, CoverageInputs)
    assert inputs.words == (
        "--model", "/models/tiny-adder", "--dtype", "float32", "--enforce-eager",
        "--max-model-len", "256", "--max-num-seqs", "32",
    )  # fmt: skip
    needs = next(stage for stage in STAGES if stage.name == "coverage").resources(inputs)
    assert (needs.engine, needs.device) == (True, "cpu_x86")


def test_what_is_told_the_engine_and_the_probe_itself_are_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(project: Project) -> str | None:
        stages = planned(project, REAL, tmp_path / "home").stages
        return next(stage.key for stage in stages if stage.name == "coverage")

    here = key(find_project(ROOT))
    serve = yaml.safe_load((ROOT / "manifests" / "releases" / f"{REAL}.yaml").read_text())["serve"]
    serve["args"]["max-model-len"] = 128
    assert key(changed(tmp_path / "other", {"serve": serve})) != here
    assert key(changed(tmp_path / "same", {"evaluation": None})) == here
    monkeypatch.setattr("relforge.stages.coverage.probe_key", lambda: "another probe")
    assert key(find_project(ROOT)) != here


def test_releases_that_it_cannot_watch_are_skipped_with_the_reason(tmp_path: Path) -> None:
    project = find_project(ROOT)
    reasons = {
        "deepseek-r1-nvidia_h100-sglang": "not yet that of sglang",
        "deepseek-r1-nvidia_h100-vllm": "relforge watches one host, and this model runs on 2",
        "deepseek-r1-w8a8-ascend_a3-mooncake": "relforge watches one server",
        "deepseek-r1-int4-bi_V150": "FlagScale's tree",
    }
    for name, reason in reasons.items():
        assert reason in because(planned(project, name, tmp_path)), name
    hello = find_project(ROOT / "examples" / "hello")
    assert because(planned(hello, "hello-cpu_x86", tmp_path)) == (
        "not-needed: engine 'command' is a server of its own, with no forward pass that relforge "
        "knows"
    )


def test_a_manifest_can_go_without(tmp_path: Path) -> None:
    project = changed(tmp_path, {"skip": {"coverage": "this model has no operators of note"}})
    plan = planned(project, REAL, tmp_path / "home")
    assert because(plan) == "not-needed: this model has no operators of note"
    card: Any = plan.inputs["card"]
    assert card.coverage_key is None
    assert card.skipped["coverage"] == "this model has no operators of note"


def ended(**changes: Any) -> ProbeEnd:
    return ProbeEnd(**{
        "state": PASSED, "evidence": json.dumps(served()).encode(), "log": "INFO: up\n",
        "timed_out": False, **changes,
    })  # fmt: skip


def test_what_was_measured_is_the_evidences_and_nothing_else(tmp_path: Path) -> None:
    result = _result(ended(), 60, Store(tmp_path), accelerated=True)
    assert result.verdict == "pass"
    assert (result.operators, result.calls) == (3, 3)
    assert isinstance(result.shares, Shares)
    assert result.reason == (
        "3 operators in 3 calls counted; Triton kernels took over 100.0 % of operators, "
        "100.0 % of calls and 84.9 % of device time"
    )
    evidence, log = result.outputs
    assert json.loads(evidence.path.read_bytes()) == served()
    assert log.path.read_text() == "INFO: up\n"
    assert CoverageResult.model_validate_json(result.model_dump_json()) == result


def test_without_an_accelerator_it_passes_and_claims_no_share(tmp_path: Path) -> None:
    data = served()
    for row in data["served"]["operators"]:
        row["device"] = None
    data["served"] |= {"unattributed_us": None, "unattributed_triton_us": {}}
    data |= {"shares": {"not_run": "no accelerator"}}
    data["device"] = {"kind": "cpu", "name": "x86_64", "driver": None}
    probe = ended(evidence=json.dumps(data).encode())
    result = _result(probe, 60, Store(tmp_path), accelerated=False)
    assert result.verdict == "pass"
    assert result.shares == NotRun(not_run="no accelerator")
    assert result.reason == (
        "3 operators in 3 calls counted; share that Triton kernels took over: not-run "
        "(no accelerator)"
    )
    assert "%" not in result.model_dump_json()
    beside = _result(probe, 60, Store(tmp_path), accelerated=True)
    assert (beside.verdict, beside.shares) == ("fail", None), "the accelerator was not used"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"timed_out": True, "state": ContainerState(status="running")}, "not done after 60 s"),
        (
            {"state": ContainerState(status="exited", exit_code=2), "log": "x\nerror: no torch\n"},
            "the probe ended with exit status 2: error: no torch",
        ),
        (
            {
                "state": ContainerState(status="exited", exit_code=1),
                "log": "RuntimeError: unable to mmap 64 bytes of shared memory: no space left\n",
            },
            "remedy: raise serve.shm_bytes",
        ),
        (
            {"state": ContainerState(status="exited", exit_code=137, oom_killed=True)},
            "remedy: raise serve.memory_bytes",
        ),
        ({"state": ContainerState(status="gone")}, "the probe is gone"),
        ({"evidence": None}, "left no evidence"),
        ({"evidence": b"{"}, "the coverage evidence cannot be used"),
        (
            {"evidence": json.dumps(served(shares={"not_run": "x"}, accuracy=[])).encode()},
            "yet figures of it are recorded",
        ),
    ],
)
def test_a_probe_that_fails_is_a_failed_gate_with_its_last_words(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    result = _result(ended(**changes), 60, Store(tmp_path), accelerated=True)
    assert result.verdict == "fail"
    assert why in result.reason
    assert (result.shares, result.summary, result.operators) == (None, (), 0)


def test_what_is_carried_in_runs_alone(tmp_path: Path) -> None:
    for name, content in probe_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-S", "-m", MODULE, "--vllm", "--", "--model"],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: torch cannot be imported: No module named 'torch'\n"


def test_parameters_are_those_of_the_stored_weights(tmp_path: Path) -> None:
    assert stored_parameters(ROOT / "examples" / "tiny-adder") == 493_696
    assert stored_parameters(tmp_path) is None


def test_a_file_is_shown_or_a_release_is_run_but_not_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps(served()))
    words = ["--evidence", str(path), "--device", "cpu_x86"]
    assert dispatch("coverage", words) == ExitCode.USAGE
    assert "runs no release" in capsys.readouterr().err
    assert dispatch("coverage", ["--evidence", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["operators"]) == 3
