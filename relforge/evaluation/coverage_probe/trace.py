"""From a trace to operators: which kernels a call launched, and which of them are Triton's."""

from __future__ import annotations

import bisect
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relforge.evaluation.coverage_probe import LABEL

_KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")
_LAUNCHES = ("cuda_runtime", "cuda_driver")


def attribute(events: Iterable[Mapping[str, Any]]) -> dict[int | None, list[tuple[str, float]]]:
    """Kernels with their time in microseconds, by the number of the call that launched them.

    What no call launched stands under None.
    """
    calls: dict[tuple[Any, Any], list[tuple[float, float, int]]] = {}
    launches: dict[Any, Mapping[str, Any]] = {}
    operators: dict[Any, Mapping[str, Any]] = {}
    kernels: list[Mapping[str, Any]] = []
    for event in events:
        kind = event.get("cat")
        if kind == "user_annotation" and str(event["name"]).startswith(LABEL):
            call = int(event["name"].removeprefix(LABEL))
            span = (event["ts"], event["ts"] + event["dur"], call)
            calls.setdefault((event["pid"], event["tid"]), []).append(span)
        elif kind in _LAUNCHES and "correlation" in event.get("args", {}):
            launches.setdefault(event["args"]["correlation"], event)
        elif kind == "cpu_op" and "External id" in event.get("args", {}):
            operators.setdefault(event["args"]["External id"], event)
        elif kind in _KERNELS:
            kernels.append(event)
    for spans in calls.values():
        spans.sort()
    found: dict[int | None, list[tuple[str, float]]] = {}
    for kernel in kernels:
        known = kernel.get("args", {})
        # A launch that the trace lacks is known by the operator that it came from.
        launch = launches.get(known.get("correlation")) or operators.get(known.get("External id"))
        number: int | None = None
        if launch is not None:
            spans = calls.get((launch["pid"], launch["tid"]), [])
            before = bisect.bisect_right(spans, (launch["ts"], math.inf, 0)) - 1
            if before >= 0 and launch["ts"] <= spans[before][1]:
                number = spans[before][2]
        found.setdefault(number, []).append((str(kernel["name"]), float(kernel["dur"])))
    return found


def triton_kernels() -> frozenset[str]:
    """The names of all kernels in Triton's cache: what it compiled."""
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    found = set()
    for path in folder.glob("*/*.json"):
        read = json.loads(path.read_text("utf-8"))
        if isinstance(read, dict) and isinstance(read.get("name"), str):
            found.add(read["name"])
    return frozenset(found)


def rows_of(
    names: Sequence[str],
    kernels: Mapping[int | None, Sequence[tuple[str, float]]] | None,
    *,
    triton: frozenset[str] = frozenset(),
    registered: frozenset[str] = frozenset(),
) -> list[dict[str, Any]]:
    """One row per operator. ``kernels``: of each call; None where there is no accelerator."""
    rows: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        row = rows.setdefault(
            name,
            {"name": name, "calls": 0, "registered": name.removeprefix("aten::") in registered,
             "device": None},
        )  # fmt: skip
        row["calls"] += 1
        if kernels is None:
            continue
        seen = kernels.get(number, ())
        ours = [us for kernel, us in seen if kernel in triton]
        device = row["device"] = row["device"] or {
            "kernel_calls": 0, "triton_calls": 0, "us": 0.0, "triton_us": 0.0, "kernels": [],
        }  # fmt: skip
        device["kernel_calls"] += bool(seen)
        device["triton_calls"] += bool(ours)
        device["us"] = round(device["us"] + sum(us for _, us in seen), 3)
        device["triton_us"] = round(device["triton_us"] + sum(ours), 3)
        device["kernels"] = sorted({*device["kernels"], *(kernel for kernel, _ in seen)})
    return [rows[name] for name in sorted(rows)]


def shares_of(rows: Sequence[Mapping[str, Any]], unattributed_us: float) -> dict[str, Any]:
    """What Triton kernels took over of a run, by operators, calls and device time (us)."""
    devices = [row["device"] for row in rows]
    return {
        "operators": {
            "taken_over": sum(device["triton_calls"] > 0 for device in devices),
            "with_kernels": sum(device["kernel_calls"] > 0 for device in devices),
            "dispatched": len(rows),
        },
        "calls": {
            "taken_over": sum(device["triton_calls"] for device in devices),
            "with_kernels": sum(device["kernel_calls"] for device in devices),
            "dispatched": sum(row["calls"] for row in rows),
        },
        "device_time": {
            "taken_over_us": round(sum(device["triton_us"] for device in devices), 3),
            "total_us": round(sum(device["us"] for device in devices) + unattributed_us, 3),
        },
    }
