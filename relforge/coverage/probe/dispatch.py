"""What torch's dispatcher hands to the device, and the profiler's trace of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.coverage.probe import LABEL, lazy


def operator_name(func: Any) -> str:
    """``aten::add.Tensor``, and ``aten::mm`` for a default overload, as registrars write it."""
    schema = func._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


@dataclass
class Watch:
    """Every call below autograd, in order; with one set of arguments of each kind if wanted.

    ``opened``: namespaces of custom operators that are written in Python. What they call is seen
    too; every other operator of a device counts as one, whatever it does inside.
    """

    keep: bool = False
    opened: frozenset[str] = frozenset()
    names: list[str] = field(default_factory=list)
    samples: dict[str, tuple[Any, Any, Any]] = field(default_factory=dict)

    def mode(self) -> Any:
        base = lazy("torch.utils._python_dispatch").TorchDispatchMode
        record = lazy("torch.profiler").record_function
        torch = lazy("torch")

        def handle(mode: Any, func: Any, __: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if falls_apart(func, args, named):
                with mode:
                    return func.decompose(*args, **named)
            name = operator_name(func)
            label = f"{LABEL}{len(self.names)}"
            self.names.append(name)
            if self.keep:
                # References do: a cache that is written later is as good an input as before.
                self.samples.setdefault(signature(name, args, kwargs), (func, args, named))
            key = device_key(args, named) if func.namespace in self.opened else None
            try:
                with record(label):
                    if key is None or not has_kernel(func, key):
                        return func(*args, **named)
                    only = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
                    with mode:
                        return func.redispatch(only, *args, **named)
            except Exception as error:
                raise RuntimeError(f"{signature(name, args, kwargs)} failed: {error}") from error

        return type("Watching", (base,), {"__torch_dispatch__": handle})()


def falls_apart(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a composite operator has come here whole, which it does in inference mode.

    One that somebody has a kernel of their own for, as FlagGems may, stays whole. Outside torch an
    operator that is registered for every device at once is no composite, but just that.
    """
    if func.namespace != "aten" or not has_kernel(func, "CompositeImplicitAutograd"):
        return False
    key = device_key(args, kwargs)
    return key is None or not has_kernel(func, key)


def device_key(args: Any, kwargs: Any) -> str | None:
    """The name of torch's dispatch key of the first tensor's device."""
    leaves = lazy("torch.utils._pytree").tree_leaves((args, kwargs))
    tensor = next((leaf for leaf in leaves if hasattr(leaf, "untyped_storage")), None)
    if tensor is None:
        return None
    return str(lazy("torch")._C._dispatch_key_for_device(tensor.device.type))


def has_kernel(func: Any, key: str) -> bool:
    """Whether an operator has a kernel for this very key, and not through one of many's."""
    return bool(lazy("torch")._C._dispatch_has_kernel_for_dispatch_key(func.name(), key))


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
    profile = Profile(device)
    try:
        work()
    finally:
        events = profile.end()
    return events


class Profile:
    """torch's profiler from now until its end, in this thread."""

    def __init__(self, device: Any) -> None:
        self.torch, self.device = lazy("torch"), device
        activity = self.torch.profiler.ProfilerActivity
        kinds = [activity.CPU] + ([activity.CUDA] if device.type == "cuda" else [])
        self.profile = self.torch.profiler.profile(activities=kinds)
        self.profile.start()

    def end(self) -> list[dict[str, Any]]:
        """The events, in the form of Chrome's trace viewer."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()
        self.profile.stop()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self.profile.export_chrome_trace(str(path))
            events: list[dict[str, Any]] = json.loads(path.read_bytes())["traceEvents"]
        return events
