"""The coverage stage on the real image: what it counted, how it fails, and that nothing is left."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.cli.common import Workplace, workplace
from relforge.coverage.evidence import load_coverage
from relforge.coverage.summary import NotRun
from relforge.errors import Cancelled
from relforge.evidence.store import Store
from relforge.files import sha256_file
from relforge.pipeline import STAGES
from relforge.plan import make_plan, subject
from relforge.stage import Job, StageContext, StageEnv
from relforge.stages import coverage as stage
from relforge.stages.coverage import Coverage, CoverageInputs, CoverageResult
from tests.e2e.conftest import CHECKOUT, QUICKSTART_SITE, containers, relforge

RELEASE = "tiny-adder-cpu_x86"


@pytest.fixture
def place() -> Workplace:
    return workplace(CHECKOUT, QUICKSTART_SITE)


@pytest.fixture(autouse=True)
def nothing_left(place: Workplace) -> Iterator[None]:
    yield
    assert [name for name in containers() if "-coverage-" in name] == []
    assert not list((place.home / "work").glob("coverage*")), "a work area"


def staged(
    place: Workplace, run_dir: Path, cancel: CancelToken, said: list[str], **changes: Any
) -> CoverageResult:
    """The stage as the runner runs it, with some of its inputs changed."""
    given = subject(place.project, place.project.release(RELEASE), place.site, dist=place.dist)
    plan = make_plan(given, STAGES, Store(place.home))
    inputs = plan.inputs["coverage"]
    assert isinstance(inputs, CoverageInputs)
    env = StageEnv(
        home=place.home, project_roots=place.project.roots, site=place.site, run_id="e2e-coverage",
        run_dir=run_dir, release=RELEASE, dist=place.dist,
    )  # fmt: skip
    upstream = {name: plan.reused[name] for name in Coverage.needs}
    job = Job("coverage", "0" * 64, inputs.model_copy(update=changes), upstream, env)
    context = StageContext(
        RELEASE, "coverage", cancel, lambda event: said.append(getattr(event, "text", ""))
    )
    return Coverage().run(job, context)


def test_it_counts_what_the_layers_of_the_model_dispatch(
    record: dict[str, Any], quickstart_dist: Path
) -> None:
    path = quickstart_dist / "evidence" / "coverage.json"
    assert record["verdicts"]["coverage"] == "pass"
    assert sha256_file(path) == record["evidence"]["coverage"][0]["sha256"]
    evidence = load_coverage(path)
    assert (evidence.forward, evidence.model.name) == ("vllm", "tiny-adder")
    assert evidence.model.parameters == 493_696
    config = json.loads((CHECKOUT / "examples" / "tiny-adder" / "config.json").read_text())
    layers, passes = config["num_hidden_layers"], 1 + evidence.settings.decode_steps
    assert evidence.settings.passes == passes == 9
    calls = {operator.name: operator.calls for operator in evidence.main.operators}
    # The sum of q, k, v; o; the sum of gate and up; down: vLLM joins them. And the head.
    linear = sum(calls.get(name, 0) for name in ("_C::onednn_mm", "aten::mm", "aten::addmm"))
    assert linear == (4 * layers + 1) * passes
    assert calls["_C::rotary_embedding"] == layers * passes
    assert calls["vllm::unified_attention_with_output"] == layers * passes
    assert calls["_C::cpu_attention_with_kv_cache"] == layers * passes, "within the one above"
    assert calls["aten::silu"] == layers * passes
    assert calls["aten::rsqrt"] == (2 * layers + 1) * passes, "two norms a layer and a last one"
    assert calls["aten::embedding"] == passes


def test_on_a_cpu_no_share_is_claimed_anywhere(
    record: dict[str, Any], quickstart_dist: Path
) -> None:
    evidence = load_coverage(quickstart_dist / "evidence" / "coverage.json")
    assert evidence.shares == NotRun(not_run="no accelerator")
    assert all(operator.device is None for operator in evidence.main.operators)
    card = (quickstart_dist / "README.md").read_text()
    section = card.split("\n### Triton operators\n")[1].split("\n##")[0]
    operators, calls = len(evidence.main.operators), sum(o.calls for o in evidence.main.operators)
    assert f"| Dispatched | {operators} operators, {calls} calls |" in section
    assert "| Taken over | not-run (no accelerator) |" in section
    assert "%" not in section
    assert record["results"]["coverage"]["operators"] == operators
    shown = relforge("coverage", "--evidence", quickstart_dist / "evidence" / "coverage.json")
    assert shown.code == 0, shown.stderr
    assert "vLLM's own, run eagerly" in shown.stdout


def test_the_verb_reuses_what_the_release_measured() -> None:
    done = relforge("coverage", "--device", "cpu_x86", "--json")
    assert done.code == 0, done.stderr
    statuses = {s["name"]: s["status"] for s in done.json["stages"]}
    assert statuses["coverage"] == "reused"
    assert statuses["card"] == "skipped"


def test_a_probe_that_refuses_is_a_failed_gate_with_its_last_words(
    place: Workplace, tmp_path: Path
) -> None:
    result = staged(place, tmp_path, CancelToken(), [], words=())
    assert result.verdict == "fail"
    assert "ended with exit status 2: error: --vllm and the words" in result.reason
    assert (result.outputs, result.operators) == ((), 0)


@pytest.mark.timeout(200)
def test_an_engine_that_dies_is_diagnosed(place: Workplace, tmp_path: Path) -> None:
    result = staged(place, tmp_path, CancelToken(), [], words=("--model", "/models/nowhere"))
    assert result.verdict == "fail"
    assert "the probe ended with exit status 1" in result.reason
    assert "remedy: compare the model manifest's weights" in result.reason


def test_one_that_takes_too_long_is_ended(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_PASSES_S", 3.0 - 300.0)  # with the engine's own 300 s
    begun = time.monotonic()
    result = staged(place, tmp_path, CancelToken(), [])
    assert time.monotonic() - begun < 60
    assert result.verdict == "fail"
    assert result.reason.startswith("the probe was not done after 3 s")


def test_a_run_that_is_cancelled_ends_the_container(place: Workplace, tmp_path: Path) -> None:
    cancel = CancelToken()
    timer = threading.Timer(3.0, cancel.cancel, ("the test says so",))
    timer.start()
    begun = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            staged(place, tmp_path, cancel, [])
    finally:
        timer.cancel()
    assert time.monotonic() - begun < 60
