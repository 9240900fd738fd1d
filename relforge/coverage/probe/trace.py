"""From a trace to operators: which kernels a call launched, and whose Triton kernels they are."""

from __future__ import annotations

import bisect
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from relforge.coverage.probe import LABEL

FLAG_GEMS, VLLM, OTHER = "FlagGems", "vLLM", "other"
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
    nested = {thread: _Nested(spans) for thread, spans in calls.items()}
    found: dict[int | None, list[tuple[str, float]]] = {}
    for kernel in kernels:
        known = kernel.get("args", {})
        # A launch that the trace lacks is known by the operator that it came from.
        launch = launches.get(known.get("correlation")) or operators.get(known.get("External id"))
        number: int | None = None
        if launch is not None and (launch["pid"], launch["tid"]) in nested:
            number = nested[launch["pid"], launch["tid"]].innermost(launch["ts"])
        found.setdefault(number, []).append((str(kernel["name"]), float(kernel["dur"])))
    return found


class _Nested:
    """The calls of one thread: (start, end, number) each; one may lie within another."""

    def __init__(self, spans: list[tuple[float, float, int]]) -> None:
        # Of two that start together, the longer one is around the other.
        self.spans = sorted(spans, key=lambda span: (span[0], -span[1], span[2]))
        self.around: list[int] = []
        open_: list[int] = []
        for index, (start, _, _) in enumerate(self.spans):
            while open_ and self.spans[open_[-1]][1] < start:
                open_.pop()
            self.around.append(open_[-1] if open_ else -1)
            open_.append(index)
        self.starts = [start for start, _, _ in self.spans]

    def innermost(self, ts: float) -> int | None:
        """The number of the smallest call around a moment."""
        index = bisect.bisect_right(self.starts, ts) - 1
        while index >= 0 and self.spans[index][1] < ts:
            index = self.around[index]
        return self.spans[index][2] if index >= 0 else None


_SOURCE = re.compile(r'loc\("([^"]+)":\d+:\d+\)')


def triton_kernels() -> dict[str, str]:
    """All kernels in Triton's cache, which is what it compiled: owner by name (``owner_of``).

    The first location in a kernel's ``.ttir`` is that of its function.
    """
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    found: dict[str, set[str]] = {}
    for path in folder.glob("*/*.json"):
        read = json.loads(path.read_text("utf-8"))
        if not isinstance(read, dict) or not isinstance(read.get("name"), str):
            continue
        ttir = path.with_suffix(".ttir")
        source = _SOURCE.search(ttir.read_text("utf-8")) if ttir.exists() else None
        found.setdefault(read["name"], set()).add(owner_of(source[1]) if source else OTHER)
    return {name: " or ".join(sorted(owners)) for name, owners in found.items()}


def owner_of(source: str) -> str:
    """Whose kernel it is, by its source file: FlagGems', vLLM's, Inductor's or another one's.

    FlagGems writes some of its kernels itself, into ``~/.flaggems`` or ``FLAGGEMS_CACHE_DIR``.
    """
    made = os.environ.get("FLAGGEMS_CACHE_DIR")
    path = PurePosixPath(source)
    if made and path.is_relative_to(made):
        return FLAG_GEMS
    parts = path.parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            parts = parts[len(parts) - parts[::-1].index(folder) :]
    if ".flaggems" in parts or "flag_gems" in parts:
        return FLAG_GEMS
    if any(part.startswith("torchinductor") or part == "_inductor" for part in parts):
        return "Inductor"
    return VLLM if "vllm" in parts else OTHER


def rows_of(
    names: Sequence[str],
    kernels: Mapping[int | None, Sequence[tuple[str, float]]] | None,
    *,
    triton: Mapping[str, str] | None = None,
    registered: frozenset[str] = frozenset(),
) -> list[dict[str, Any]]:
    """One row per operator. ``kernels``: of each call; None where there is no accelerator.

    ``triton``: the owners of Triton's kernels, by name.
    """
    owners = triton or {}
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
        ours = [(owners[kernel], us) for kernel, us in seen if kernel in owners]
        device = row["device"] = row["device"] or {
            "kernel_calls": 0, "triton_calls": 0, "us": 0.0, "triton_us": 0.0, "kernels": [],
            "owners": {},
        }  # fmt: skip
        device["kernel_calls"] += bool(seen)
        device["triton_calls"] += bool(ours)
        device["us"] = round(device["us"] + sum(us for _, us in seen), 3)
        device["triton_us"] = round(device["triton_us"] + sum(us for _, us in ours), 3)
        for owner in dict.fromkeys(owner for owner, _ in ours):
            work = device["owners"].setdefault(owner, {"calls": 0, "us": 0.0})
            work["calls"] += 1
            work["us"] = round(work["us"] + sum(us for one, us in ours if one == owner), 3)
        device["kernels"] = sorted({*device["kernels"], *(kernel for kernel, _ in seen)})
    return [rows[name] for name in sorted(rows)]


def run_of(
    names: Sequence[str],
    kernels: Mapping[int | None, Sequence[tuple[str, float]]],
    *,
    triton: Mapping[str, str] | None = None,
    registered: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """A run on an accelerator: its operators, and the kernels that no call launched."""
    free = kernels.get(None, ())
    owners: dict[str, float] = {}
    for kernel, us in free:
        if triton and kernel in triton:
            owners[triton[kernel]] = round(owners.get(triton[kernel], 0.0) + us, 3)
    return {
        "operators": rows_of(names, kernels, triton=triton, registered=registered),
        "unattributed_us": round(sum(us for _, us in free), 3),
        "unattributed_triton_us": owners,
    }


def shares_of(
    rows: Sequence[Mapping[str, Any]],
    unattributed_us: float,
    unattributed_triton_us: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What Triton kernels took over of a run, by operators, calls and device time (us).

    ``owners``: the same of each owner's kernels. A call may run those of several.
    """
    devices = [row["device"] for row in rows]
    free = unattributed_triton_us or {}
    owners: dict[str, dict[str, Any]] = {}
    for device in devices:
        for owner, work in (device.get("owners") or {}).items():
            sums = owners.setdefault(owner, {"operators": 0, "calls": 0, "us": 0.0})
            sums["operators"] += 1
            sums["calls"] += work["calls"]
            sums["us"] = round(sums["us"] + work["us"], 3)
    for owner, us in free.items():
        sums = owners.setdefault(owner, {"operators": 0, "calls": 0, "us": 0.0})
        sums["us"] = round(sums["us"] + us, 3)
    taken_over_us = sum(device["triton_us"] for device in devices) + sum(free.values())
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
            "taken_over_us": round(taken_over_us, 3),
            "total_us": round(sum(device["us"] for device in devices) + unattributed_us, 3),
        },
        "owners": dict(sorted(owners.items())),
    }
