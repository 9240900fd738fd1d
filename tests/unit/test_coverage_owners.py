"""Whose Triton kernel ran, and in which of the calls that lie within each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.coverage.evidence import load_coverage
from relforge.coverage.probe import FORMAT, LABEL
from relforge.coverage.probe.__main__ import text_of
from relforge.coverage.probe.trace import (
    attribute,
    owner_of,
    run_of,
    shares_of,
    triton_kernels,
)
from relforge.coverage.probe.vllm_forward import split
from relforge.coverage.rows import operator_rows, summary_rows
from relforge.errors import ExitCode, RelforgeError

SITE = "/opt/venv/lib/python3.12/site-packages"
# An operator of vLLM's around one of torch's, and one more; kernels, and one that no call launched.
NAMES = ("vllm::unified_attention", "aten::mm", "aten::add.Tensor")
SPANS = ((0.0, 90.0), (20.0, 30.0), (100.0, 50.0))
LAUNCHES = (
    (10.0, "kernel_unified", 40.0), (25.0, "mm_kernel", 8.0), (60.0, "reduce", 2.0),
    (95.0, "slot_mapping", 1.5), (110.0, "vectorized_add", 4.0), (120.0, "add_kernel", 1.0),
    (200.0, "Memcpy", 3.0),
)  # fmt: skip
TRITON = {
    "kernel_unified": "vLLM", "mm_kernel": "FlagGems", "slot_mapping": "vLLM",
    "add_kernel": "FlagGems", "never_ran": "other",
}  # fmt: skip


def trace() -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"cat": "user_annotation", "name": f"{LABEL}{call}", "pid": 1, "tid": 1, "ts": start,
         "dur": length}
        for call, (start, length) in enumerate(SPANS)
    ]  # fmt: skip
    for number, (ts, name, us) in enumerate(LAUNCHES):
        events += [
            {"cat": "cuda_runtime", "name": "launch", "pid": 1, "tid": 1, "ts": ts, "dur": 1.0,
             "args": {"correlation": number}},
            {"cat": "kernel", "name": name, "pid": 0, "tid": 7, "ts": 1e6, "dur": us,
             "args": {"correlation": number}},
        ]  # fmt: skip
    return events


def served(**changes: Any) -> dict[str, Any]:
    """What the probe would write of vLLM's forward pass with that trace."""
    run = run_of(NAMES, attribute(trace()), triton=TRITON)
    none = {"not_run": "measured as it is served, not against native torch"}
    return {
        "format": FORMAT, "date": None, "forward": "vllm",
        "model": {"name": "qwen", "parameters": 10, "shape": {"layers": 1, "vocabulary": 259}},
        "settings": {
            "dtype": "bfloat16", "seed": 0, "attention": "TRITON_ATTN", "prompt_tokens": 32,
            "decode_steps": 8, "greedy_tokens": 0, "exclude": [], "passes": 9, "ranks": 2,
        },
        "versions": {"python": "3.12.3", "torch": "2.11.0", "triton": "3.6.0",
                     "flag_gems": "5.0.2", "transformers": None, "vllm": "0.24.0"},
        "device": {"kind": "cuda", "name": "NVIDIA H200", "driver": "580.1"},
        "native": none, "flag_gems": none, "accuracy": none, "agreement": none,
        "served": run,
        "shares": shares_of(
            run["operators"], run["unattributed_us"], run["unattributed_triton_us"]
        ),
        **changes,
    }  # fmt: skip


def test_a_kernel_belongs_to_the_innermost_call_around_its_launch() -> None:
    assert attribute(trace()) == {
        0: [("kernel_unified", 40.0), ("reduce", 2.0)],
        1: [("mm_kernel", 8.0)],
        2: [("vectorized_add", 4.0), ("add_kernel", 1.0)],
        None: [("slot_mapping", 1.5), ("Memcpy", 3.0)],
    }


def test_calls_that_begin_and_end_together_lie_within_each_other() -> None:
    events: list[dict[str, Any]] = [
        {"cat": "user_annotation", "name": f"{LABEL}{call}", "pid": 1, "tid": 1, "ts": 5.0,
         "dur": length}
        for call, length in ((0, 40.0), (1, 40.0), (2, 10.0))
    ]  # fmt: skip
    for number, ts in enumerate((10.0, 30.0, 46.0)):
        events += [
            {"cat": "cuda_driver", "pid": 1, "tid": 1, "ts": ts, "args": {"correlation": number}},
            {"cat": "kernel", "name": f"k{number}", "dur": 1.0, "args": {"correlation": number}},
        ]
    assert attribute(events) == {2: [("k0", 1.0)], 1: [("k1", 1.0)], None: [("k2", 1.0)]}


def test_shares_are_told_apart_by_owner_and_free_kernels_count_in_time_alone() -> None:
    shares = served()["shares"]
    assert shares["operators"] == {"taken_over": 3, "with_kernels": 3, "dispatched": 3}
    assert shares["device_time"] == {"taken_over_us": 50.5, "total_us": 59.5}
    assert shares["owners"] == {
        "FlagGems": {"operators": 2, "calls": 2, "us": 9.0},
        "vLLM": {"operators": 1, "calls": 1, "us": 41.5},
    }


def test_evidence_of_a_served_model_is_read_and_shown_like_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(text_of(served()))
    evidence = load_coverage(path)
    rows = {row.name: row.value for row in summary_rows(evidence)}
    assert rows["Forward pass"].startswith("vLLM's own, run eagerly, the first of 2 ranks")
    assert rows["Dispatched"] == "3 operators, 3 calls"
    assert rows["Taken over, by device time"] == "84.9 % (0.05 of 0.06 ms)"
    assert rows["Of these, Triton kernels of vLLM"] == (
        "1 operators, 1 calls, 69.7 % of the device time"
    )
    assert not any("native" in name for name in rows), "nothing was compared with native torch"
    assert {row.name: row.how for row in operator_rows(evidence)} == {
        "vllm::unified_attention": "vLLM", "aten::mm": "FlagGems, inside",
        "aten::add.Tensor": "FlagGems, inside",
    }  # fmt: skip
    assert dispatch("coverage", ["--evidence", str(path)]) == 0
    assert "vllm 0.24.0, torch 2.11.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"served": None}, "either measured in native torch or as it is served"),
        ({"forward": "transformers"}, "'transformers' is not measured like that"),
        ({"shares": served()["shares"] | {"owners": {}}}, "its operators give"),
        ({"accuracy": []}, "yet figures of it are recorded"),
        (
            {"served": served()["served"] | {"unattributed_triton_us": {"vLLM": 99.0}}},
            "more time in Triton kernels that no call launched than in all such",
        ),
    ],
)
def test_served_evidence_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(served(**changes)))
    with pytest.raises(RelforgeError) as refused:
        load_coverage(path)
    assert refused.value.code == ExitCode.SOURCE
    assert why in str(refused.value)


def test_owners_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    data = served()
    data["served"]["operators"][-1]["device"]["owners"]["vLLM"]["us"] = 3.0
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RelforgeError, match="the owners of its Triton kernels"):
        load_coverage(path)


@pytest.mark.parametrize(
    ("source", "owner"),
    [
        (f"{SITE}/flag_gems/ops/mm.py", "FlagGems"),
        ("/home/vllm/.flaggems/code_cache/pointwise_dynamic_ab12.py", "FlagGems"),
        ("/caches/gems/code_cache/pointwise_dynamic_ab12.py", "FlagGems"),
        ("/src/FlagGems/src/flag_gems/fused/silu_and_mul.py", "FlagGems"),
        (f"{SITE}/vllm/v1/attention/ops/triton_unified_attention.py", "vLLM"),
        ("/workspace/vllm/vllm/model_executor/layers/fused_moe/fused_moe.py", "vLLM"),
        ("/tmp/torchinductor_root/ab/cabc.py", "Inductor"),
        ("/vllm/venv/lib/python3.12/site-packages/xformers/kernel.py", "other"),
        ("/models/own_kernels.py", "other"),
    ],
)
def test_a_kernel_is_whose_file_it_is_in(
    source: str, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAGGEMS_CACHE_DIR", "/caches/gems")
    assert owner_of(source) == owner


def test_owners_are_read_from_tritons_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was written by Triton 3.6.0, of a kernel whose helper lies in another file."""
    cache = Path(__file__).resolve().parents[1] / "fixtures" / "coverage" / "triton-cache"
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    assert triton_kernels() == {"silu_twice": "FlagGems"}
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert triton_kernels() == {}
    for number, (name, source) in enumerate(
        (("bare", None), ("both", f"{SITE}/vllm/a.py"), ("both", f"{SITE}/flag_gems/a.py"))
    ):
        folder = tmp_path / f"K{number}"
        folder.mkdir()
        (folder / f"{name}.json").write_text(json.dumps({"name": name}))
        if source is not None:
            (folder / f"{name}.ttir").write_text(f'#loc = loc("{source}":9:0)\nmodule {{}}\n')
    assert triton_kernels() == {"bare": "other", "both": "FlagGems or vLLM"}


def test_the_servers_options_are_split_from_the_engines() -> None:
    words = ["--model", "/m", "--host", "0.0.0.0", "--dtype=float32", "--enforce-eager",
             "--max_model_len", "256", "--speculative-config.method", "mtp",
             "--tool-call-parser", "hermes"]  # fmt: skip
    known = ["--model", "--dtype", "--enforce-eager", "--max-model-len", "--speculative-config"]
    ours, others = split(words, known)
    assert ours == ["--model", "/m", "--dtype=float32", "--enforce-eager", "--max_model_len",
                    "256", "--speculative-config.method", "mtp"]  # fmt: skip
    assert others == ["--host", "0.0.0.0", "--tool-call-parser", "hermes"]
