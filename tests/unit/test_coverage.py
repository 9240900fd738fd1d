"""Operator coverage: from a trace to shares, and evidence that is read, refused and shown."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.coverage.evidence import load_coverage
from relforge.coverage.probe import FORMAT, LABEL
from relforge.coverage.probe.__main__ import text_of
from relforge.coverage.probe.trace import (
    FLAG_GEMS,
    attribute,
    rows_of,
    shares_of,
)
from relforge.coverage.rows import operator_rows, summary_rows
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import builtin_root

NAMES = ("aten::mm", "aten::t", "aten::mul.Tensor", "aten::mm", "aten::clone", "aten::pow")
TRITON = dict.fromkeys(("mm_kernel", "mul_kernel", "copy_kernel"), FLAG_GEMS)
REGISTERED = frozenset({"mm", "mul.Tensor", "pow"})
# Of each call, the kernels that ran: one mm fell back, clone calls an operator of FlagGems.
KERNELS: tuple[tuple[tuple[str, float], ...], ...] = (
    (("mm_kernel", 30.0), ("Memset", 1.5)), (), (("mul_kernel", 4.25),), (("cublas", 20.0),),
    (("copy_kernel", 2.0),), (("vectorized", 3.0),),
)  # fmt: skip


def trace(kernels: tuple[tuple[tuple[str, float], ...], ...] = KERNELS) -> list[dict[str, Any]]:
    """A trace as torch's profiler exports it: labels, launches within them, kernels much later."""
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name"}]
    number = 0
    for call, ran in enumerate(kernels):
        start = 100.0 * call
        events.append(
            {"cat": "user_annotation", "name": f"{LABEL}{call}", "pid": 1, "tid": 1, "ts": start,
             "dur": 90.0}
        )  # fmt: skip
        # The label stands on the device's side too; it must not be taken for a kernel.
        events.append(
            {"cat": "gpu_user_annotation", "name": f"{LABEL}{call}", "pid": 0, "tid": 7, "ts": 1e6,
             "dur": 500.0}
        )  # fmt: skip
        for position, (name, us) in enumerate(ran):
            number += 1
            kind = "cuda_driver" if name in TRITON else "cuda_runtime"
            events.append(
                {"cat": kind, "name": "launch", "pid": 1, "tid": 1, "ts": start + 10 + position,
                 "dur": 1.0, "args": {"correlation": number}}
            )  # fmt: skip
            events.append(
                {"cat": "gpu_memset" if name == "Memset" else "kernel", "name": name, "pid": 0,
                 "tid": 7, "ts": 1e6 + number, "dur": us, "args": {"correlation": number}}
            )  # fmt: skip
    return events


def evidence(**changes: Any) -> dict[str, Any]:
    """What the probe would write of that trace."""
    gems = attribute(trace())
    native = attribute(trace((*(((f"native{i}", 10.0),) for i in range(5)), (("pow", 1.0),))))
    operators = rows_of(NAMES, gems, triton=TRITON, registered=REGISTERED)
    return {
        "format": FORMAT, "date": None, "forward": "small decoder",
        "model": {"name": "small", "parameters": 10, "shape": {"layers": 4, "eps": 1e-6}},
        "settings": {
            "dtype": "float16", "seed": 0, "attention": "sdpa", "prompt_tokens": 32,
            "decode_steps": 8, "greedy_tokens": 64, "exclude": [],
        },
        "versions": {"python": "3.12.3", "torch": "2.11.0", "triton": "3.6.0",
                     "flag_gems": "5.0.2", "transformers": None},
        "device": {"kind": "cuda", "name": "NVIDIA H200", "driver": "580.1"},
        "native": {"operators": rows_of(NAMES, native), "unattributed_us": 0.0},
        "flag_gems": {"operators": operators, "unattributed_us": 0.0, "registered_operators": 398},
        "shares": shares_of(operators, 0.0),
        "accuracy": [
            compared("aten::mm(float16 32x512, float16 512x512)", max_abs_error=0.5,
                     relative_error=0.001),
            compared("aten::mm(float16 1x512, float16 512x512)", max_abs_error=0.25,
                     relative_error=0.002),
        ],
        "agreement": {
            "greedy_tokens": 64, "equal_tokens": 60, "first_difference": 60, "positions": 95,
            "equal_best": 94, "max_abs_logit_error": 0.01, "max_abs_logit": 4.0,
            "against_float32": {
                "native_equal_best": 95, "flag_gems_equal_best": 94,
                "native_max_abs_logit_error": 0.01, "flag_gems_max_abs_logit_error": 0.02,
            },
        },
        **changes,
    }  # fmt: skip


def compared(call: str, **changes: Any) -> dict[str, Any]:
    return {
        "call": call, "elements": 10, "equal_elements": 9, "max_abs_error": 0.0,
        "relative_error": 0.0, "non_finite_mismatches": 0, "error": None, **changes,
    }  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "coverage.json"
    path.write_text(text_of(evidence()))
    return path


def test_a_kernel_belongs_to_the_call_that_launched_it() -> None:
    assert attribute(trace()) == {call: list(ran) for call, ran in enumerate(KERNELS) if ran}


def test_a_kernel_that_no_call_launched_is_not_given_to_any() -> None:
    events = trace()
    late = [e for e in events if e.get("cat") == "cuda_runtime"][-1]
    late["ts"] += 95.0  # after its label has ended, before the next
    another_thread = next(e for e in events if e.get("cat") == "cuda_driver")
    another_thread["tid"] = 2
    lost = next(e for e in events if e["name"] == "copy_kernel")
    lost["args"] = {}
    assert attribute(events)[None] == [("mm_kernel", 30.0), ("copy_kernel", 2.0), ("vectorized", 3)]


def test_a_launch_that_the_trace_lacks_is_found_by_its_operator() -> None:
    events = [event for event in trace() if event.get("cat") != "cuda_driver"]
    of_mul = next(event for event in events if event["name"] == "mul_kernel")
    of_mul["args"]["External id"] = 77
    events.append(
        {"cat": "cpu_op", "name": "aten::mul", "pid": 1, "tid": 1, "ts": 205.0, "dur": 50.0,
         "args": {"External id": 77}}
    )  # fmt: skip
    found = attribute(events)
    assert found[2] == [("mul_kernel", 4.25)]
    assert found[None] == [("mm_kernel", 30.0), ("copy_kernel", 2.0)]


def test_shares_count_what_triton_ran_and_not_what_was_registered() -> None:
    rows = {
        row["name"]: row
        for row in rows_of(NAMES, attribute(trace()), triton=TRITON, registered=REGISTERED)
    }
    assert rows["aten::mm"]["device"] == {
        "kernel_calls": 2, "triton_calls": 1, "us": 51.5, "triton_us": 30.0,
        "kernels": ["Memset", "cublas", "mm_kernel"],
        "owners": {"FlagGems": {"calls": 1, "us": 30.0}},
    }  # fmt: skip
    assert rows["aten::pow"]["registered"]
    assert rows["aten::pow"]["device"]["triton_calls"] == 0
    assert shares_of(list(rows.values()), 10.0) == {
        "operators": {"taken_over": 3, "with_kernels": 4, "dispatched": 5},
        "calls": {"taken_over": 3, "with_kernels": 5, "dispatched": 6},
        "device_time": {"taken_over_us": 36.25, "total_us": 70.75},
        "owners": {"FlagGems": {"operators": 3, "calls": 3, "us": 36.25}},
    }


def test_the_rows_say_who_computed_an_operator(file: Path) -> None:
    rows = {row.name: row for row in operator_rows(load_coverage(file))}
    assert {name: row.how for name, row in rows.items()} == {
        "aten::mm": "FlagGems, in part",
        "aten::mul.Tensor": "FlagGems",
        "aten::clone": "FlagGems, inside",
        "aten::pow": "registered, no Triton kernel ran",
        "aten::t": "no kernel",
    }
    assert next(iter(rows)) == "aten::mm", "what takes most of the time stands first"
    assert (rows["aten::mm"].us, rows["aten::mm"].native_us) == (51.5, 20.0)
    assert (rows["aten::mm"].max_abs_error, rows["aten::mm"].relative_error) == (0.5, 0.002)
    assert rows["aten::clone"].max_abs_error is None, "nobody compared it"


def test_the_summary_gives_every_share_with_its_counts(file: Path) -> None:
    rows = {row.name: row.value for row in summary_rows(load_coverage(file))}
    assert rows == {
        "Model": "small, float16",
        "Forward pass": (
            "a small decoder of Qwen2's shape: a prompt of 32 tokens and 8 steps of one"
        ),
        "Device": "NVIDIA H200, driver 580.1",
        "Software": "torch 2.11.0, triton 3.6.0, flag_gems 5.0.2",
        "Dispatched natively": "5 operators, 6 calls",
        "Taken over, by operators": "75.0 % (3 of 4 that run kernels; 5 dispatched)",
        "Taken over, by calls": "60.0 % (3 of 5 that run kernels; 6 dispatched)",
        "Taken over, by device time": "59.7 % (0.04 of 0.06 ms)",
        "Of these, Triton kernels of FlagGems": ("3 operators, 3 calls, 59.7 % of the device time"),
        "These operators' time in native torch": "78.4 % (0.04 of 0.05 ms)",
        "Errors against native torch": "2 calls compared, at most 0.5 absolute, 0.002 relative",
        "Greedy text equal to native torch's": "60 of 64 tokens, first difference at token 60",
        "Best token equal, on the same text": (
            "94 of 95 positions (against float32: FlagGems 94, native torch 95)"
        ),
    }


def test_without_an_accelerator_there_is_a_count_and_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"not_run": "no accelerator"}
    path = tmp_path / "cpu.json"
    path.write_text(
        text_of(
            evidence(
                native={"operators": rows_of(NAMES, None), "unattributed_us": None},
                flag_gems=none, shares=none, accuracy=none, agreement=none,
            )
        )
    )  # fmt: skip
    assert dispatch("coverage", ["--evidence", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row["value"] for row in shown["summary"]}
    assert rows["Dispatched natively"] == "5 operators, 6 calls"
    for name in ("Taken over", "Errors against native torch", "Agreement with native torch"):
        assert rows[name] == "not-run (no accelerator)"
    assert "%" not in json.dumps(shown, ensure_ascii=False)
    assert {row["name"]: row["calls"] for row in shown["operators"]}["aten::mm"] == 2
    assert all(row["us"] is None and row["how"] == "counted" for row in shown["operators"])


def test_a_failed_comparison_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "failed.json"
    path.write_text(
        text_of(
            evidence(
                accuracy=[
                    compared("aten::mm(float16 1x1)", error="FlagGems: ValueError: no"),
                    compared("aten::mul.Tensor(float16 4)", non_finite_mismatches=3),
                ]
            )
        )
    )
    assert dispatch("coverage", ["--evidence", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "2 calls compared, at most 0 absolute, 0 relative; 2 FAILED" in shown
    assert "FAILED: FlagGems: ValueError: no" in shown
    assert "FAILED: 3 values are finite on one side only" in shown


def _set(data: dict[str, Any], where: str, value: Any) -> None:
    *path, last = where.split(".")
    here: Any = data
    for step in path:
        here = here[int(step) if isinstance(here, list) else step]
    here[int(last) if isinstance(here, list) else last] = value


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [
        ("format", "relforge.coverage/2", "not 'relforge.coverage/1'"),
        ("shares.operators.taken_over", 4, "its operators give"),
        ("shares.calls.dispatched", 7, "its operators give"),
        ("shares.device_time.taken_over_us", 36.5, "36.25 us in Triton kernels"),
        ("shares.device_time.total_us", 60.0, "60.75 us of device time"),
        ("flag_gems.operators.1.device.triton_us", 99.0, "more time in Triton kernels than in all"),
        ("flag_gems.operators.1.device.kernel_calls", 9, "its calls contradict each other"),
        ("flag_gems.operators.1.device", None, "has no device time"),
        ("flag_gems.operators.1.name", "aten::pow", "listed twice"),
        ("flag_gems", {"not_run": "not installed"}, "yet figures of it are recorded"),
        ("agreement.equal_tokens", 65, "its agreement contradicts itself"),
        ("agreement.first_difference", None, "its agreement contradicts itself"),
        ("agreement.surprise", 1, "surprise"),
        ("native.operators", [], "native.NativeRun.operators"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(
    tmp_path: Path, where: str, value: Any, why: str
) -> None:
    data = evidence()
    _set(data, where, value)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RelforgeError) as refused:
        load_coverage(path)
    assert refused.value.code == ExitCode.SOURCE
    assert why in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_that_is_gone_broken_or_another_is_refused(tmp_path: Path, file: Path) -> None:
    broken = tmp_path / "broken.json"
    for content in ("{", "[]"):
        broken.write_text(content)
        with pytest.raises(RelforgeError, match="cannot be used"):
            load_coverage(broken)
    with pytest.raises(RelforgeError, match="No such file"):
        load_coverage(tmp_path / "none.json")
    with pytest.raises(RelforgeError, match="expected sha256 0000"):
        load_coverage(file, sha256="0" * 64)
    assert dispatch("coverage", ["--evidence", str(broken)]) == ExitCode.SOURCE


def test_an_operator_is_one_line_and_a_figure_is_json(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if '"name": "aten::' in line]
    assert len(lines) == 2 * len(set(NAMES))
    with pytest.raises(ValueError, match="JSON"):
        text_of(evidence(date=math.nan))


def test_the_probe_needs_nothing_of_relforges_dependencies() -> None:
    """It runs where only Python is, up to the point where it says that torch is missing."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "relforge.coverage.probe"],
        env={"PYTHONPATH": str(builtin_root()), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: torch cannot be imported: No module named 'torch'\n"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_measured_evidence_holds_together(
    dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its shares follow from its lists, or it would be refused."""
    path = builtin_root() / "examples" / "coverage" / f"h200-sdpa-{dtype}.json"
    evidence = load_coverage(path)
    assert evidence.device is not None
    assert evidence.device.name == "NVIDIA H200"
    assert evidence.settings.exclude == ("mul",), "docs/coverage.md says why"
    assert dispatch("coverage", ["--evidence", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "86.4 % (19 of 22 that run kernels; 30 dispatched)" in shown
    assert "aten::mul.Tensor" in shown
