"""What torch's dispatcher hands to the device, and the profiler's trace of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.evaluation.coverage_probe import LABEL, lazy


def operator_name(func: Any) -> str:
    """``aten::add.Tensor``, and ``aten::mm`` for a default overload, as registrars write it."""
    schema = func._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


@dataclass
class Watch:
    """Every call below autograd, in order; with one set of arguments of each kind if wanted."""

    keep: bool = False
    names: list[str] = field(default_factory=list)
    samples: dict[str, tuple[Any, Any, Any]] = field(default_factory=dict)

    def mode(self) -> Any:
        base = lazy("torch.utils._python_dispatch").TorchDispatchMode
        record = lazy("torch.profiler").record_function

        def handle(_: Any, func: Any, __: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = operator_name(func)
            label = f"{LABEL}{len(self.names)}"
            self.names.append(name)
            if self.keep:
                # References do: a cache that is written later is as good an input as before.
                self.samples.setdefault(signature(name, args, kwargs), (func, args, kwargs or {}))
            try:
                with record(label):
                    return func(*args, **(kwargs or {}))
            except Exception as error:
                raise RuntimeError(f"{signature(name, args, kwargs)} failed: {error}") from error

        return type("Watching", (base,), {"__torch_dispatch__": handle})()


def signature(name: str, args: Any, kwargs: Any) -> str:
    """An operator with the types, sizes and strides of its tensors and its other arguments."""

    def shown(value: Any) -> str:
        if hasattr(value, "untyped_storage"):
            sizes = "x".join(map(str, value.shape)) or "scalar"
            dense = "" if value.is_contiguous() else f" strides {tuple(value.stride())}"
            return f"{str(value.dtype).removeprefix('torch.')} {sizes}{dense}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(shown, value))}]"
        return str(value)

    words = [shown(value) for value in args]
    words += [f"{key}={shown(value)}" for key, value in (kwargs or {}).items()]
    return f"{name}({', '.join(words)})"


def profiled(work: Callable[[], object], device: Any) -> list[dict[str, Any]]:
    """The events of the profiler's trace of some work, in the form of Chrome's trace viewer."""
    torch = lazy("torch")
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CPU] + ([activity.CUDA] if device.type == "cuda" else [])
    with torch.profiler.profile(activities=kinds) as profile:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_bytes())["traceEvents"]
    return events
