"""Release records for notes: small, whole where notes read them, and changed as a test asks."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relforge.evaluation.evidence import evidence_bytes
from relforge.evaluation.interface import EvaluationResult, EvaluationSettings, Outcome

Change = tuple[str, Any]
"""A place in the record (``results/build/compressed_bytes``) and what stands there instead."""

_LATENCY = {"mean_ms": 40.0, "percentiles": [{"p": 50.0, "ms": 38.0}]}


def _level(concurrency: int, tokens_per_s: float) -> dict[str, Any]:
    return {
        "figures": {
            "concurrency": concurrency,
            "prompts": 100,
            "request_per_s": tokens_per_s / 32,
            "output_tokens_per_s": tokens_per_s,
            "ttft": _LATENCY,
            "itl": _LATENCY,
        },
        "surroundings": {"other_cores": 0.1, "prefix_cache_hit_share": 0.0},
    }


def _layer(number: int, size_bytes: int, kind: str) -> dict[str, Any]:
    return {"digest": f"sha256:{number:064x}", "size_bytes": size_bytes, "kind": kind}


_RECORD: dict[str, Any] = {
    "release": "hello-gpu",
    "run": "20260101T000000Z-000001",
    "image_digest": "sha256:" + "1" * 64,
    "created": "2026-01-01T00:00:00Z",
    "names": {"release": "hello-gpu", "model": "hello", "device": "gpu"},
    "verdicts": {"smoke": "pass", "evaluate": "pass", "bench": "pass"},
    "skipped": {"coverage": "not-needed: the release declares none"},
    "lock": {
        "sources": {
            "engine": {
                "kind": "git",
                "identity": f"https://github.com/example/engine@{'a' * 40}",
                "commit": "a" * 40,
                "tree": "b" * 40,
            }
        },
        "patches": {
            "engine-gpu": {
                "source": "engine",
                "content": "c" * 64,
                "result_tree": "d" * 40,
                "patches": [["0001-load.patch", "1" * 64], ["0002-kernels.patch", "2" * 64]],
            }
        },
    },
    "inputs": {
        "evaluate": {
            "values": {
                "release": {
                    "name": "hello-gpu",
                    "model": "hello",
                    "device": "gpu",
                    "engine": "vllm",
                    "serve": {"port": 8000, "args": {"max-num-seqs": 32}, "env": {}},
                },
                "tasks": [{"file": {"name": "sums", "questions_sha256": "e" * 64}, "named": None}],
            }
        },
        "build": {
            "values": {
                "base": {
                    "registry": {"reference": "debian:12-slim", "digest": "sha256:" + "f" * 64}
                }
            }
        },
        "weights": {"values": {"model": "hello", "files": [{"path": "m.bin", "sha256": "0" * 64}]}},
    },
    "evidence": {"evaluate": []},
    "results": {
        "build": {
            "config_digest": "sha256:" + "9" * 64,
            "compressed_bytes": 500_000_000,
            "unpacked_bytes": 1_500_000_000,
            "layer_sizes": [
                _layer(1, 50_000_000, "base"),
                _layer(2, 400_000_000, "dependencies"),
                _layer(3, 45_000_000, "native"),
                _layer(4, 5_000_000, "python"),
            ],
            "base_how": "registry",
            "base_digest": "sha256:" + "f" * 64,
            "python": "3.11.2",
            "python_packages": {"numpy": "2.3.5", "torch": "2.8.0", "yarl": "1.25.1"},
            "debian_packages": {"bash": "5.2.15-2+b13"},
            "pip_check": [],
        },
        "evaluate": {
            "tasks": [
                {
                    "task": "sums",
                    "metric": "exact_match",
                    "n": 1000,
                    "reference_percent": 93.0,
                    "result_percent": 92.0,
                    "result_correct": 920,
                    "difference_points": -1.0,
                    "interval_points": [-1.8, -0.2],
                    "confidence": 0.95,
                    "margin_points": 2.0,
                    "conclusion": "non-inferior",
                }
            ]
        },
        "bench": {
            "report": {
                "settings": {
                    "bench": {"input_tokens": 64, "output_tokens": 32, "seed": 0},
                    "tool": "vllm bench serve",
                    "tool_version": "0.32.0",
                },
                "machine": {"processor": "GPU host", "cores": 16, "memory_bytes": 64_000_000_000},
                "levels": [_level(1, 600.0), _level(8, 3000.0)],
            }
        },
    },
}


def record(*changes: Change) -> dict[str, Any]:
    """The record, with the named places changed; None takes a place away."""
    made = copy.deepcopy(_RECORD)
    for place, value in changes:
        *above, last = place.split("/")
        at: Any = made
        for key in above:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if value is None:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    return made


NEWER: tuple[Change, ...] = (
    ("image_digest", "sha256:" + "2" * 64),
    ("created", "2026-02-01T00:00:00Z"),
    ("lock/sources/engine/identity", f"https://github.com/example/engine@{'c' * 40}"),
    ("lock/sources/engine/commit", "c" * 40),
    ("lock/sources/engine/tree", "e" * 40),
    (
        "lock/patches/engine-gpu/patches",
        [
            ["0001-load.patch", "1" * 64],
            ["0002-kernels.patch", "3" * 64],
            ["0003-fast.patch", "4" * 64],
        ],
    ),
    ("results/build/compressed_bytes", 505_000_000),
    ("results/build/layer_sizes/2", _layer(5, 50_000_000, "native")),
    ("results/build/python_packages", {"numpy": "2.3.6", "torch": "2.7.1", "blake3": "1.0.11"}),
    ("results/evaluate/tasks/0/result_percent", 92.4),
    ("results/evaluate/tasks/0/result_correct", 924),
    ("results/bench/report/levels", [_level(1, 630.0), _level(8, 2900.0)]),
    ("inputs/evaluate/values/release/serve/args/max-num-seqs", 64),
)
"""What makes the next release of it: another commit, another patch, more requests at a time."""


def write_record(folder: Path, made: dict[str, Any], right: Sequence[bool] | None = None) -> Path:
    """A folder with the record and, where *right* is given, an evaluation with these answers."""
    folder.mkdir(parents=True)
    if right is not None:
        data = evidence_bytes(answers(right))
        (folder / "evidence").mkdir()
        (folder / "evidence" / "evaluation.json").write_bytes(data)
        made["evidence"]["evaluate"] = [{"sha256": hashlib.sha256(data).hexdigest()}]
        (task,) = made["results"]["evaluate"]["tasks"]
        task |= {
            "n": len(right),
            "result_correct": sum(right),
            "result_percent": 100 * sum(right) / len(right),
        }
    (folder / "release.json").write_text(json.dumps(made))
    return folder


def answers(right: Sequence[bool]) -> EvaluationResult:
    """An evaluation whose questions were answered rightly or not, in this order."""
    return EvaluationResult(
        settings=EvaluationSettings(
            task="sums",
            questions_sha256="e" * 64,
            n=len(right),
            shots=0,
            temperature=0,
            max_tokens=8,
            stop=(),
            prompt_template="{{question}}",
            tool="lm-eval",
            tool_version="0.4.13",
        ),
        outcomes=tuple(
            Outcome(id=str(n), question=f"{n}+1=", expected=str(n + 1), answer="", correct=correct)
            for n, correct in enumerate(right)
        ),
    )
