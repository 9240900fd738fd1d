"""Runs in the image: the probe's comparison with real torch, FlagGems' place taken by a stand-in.

The stand-in has FlagGems' interface (``use_gems``, ``all_registered_keys``) and registers kernels
with torch's dispatcher as FlagGems does, for the CPU: two that are right, and three that are not.
None calls an operator that another one stands for. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from relforge.coverage.probe import comparing, lazy
from relforge.coverage.probe.__main__ import enabled
from relforge.coverage.probe.dispatch import Watch

torch = lazy("torch")


def _refuses(_: Any) -> Any:
    raise ValueError("this size is unsupported")


KERNELS = {
    "silu": lambda x: x * torch.sigmoid(x),
    "add_.Tensor": lambda x, y, alpha=1: x.copy_(torch.sub(x, -alpha * y)),
    "sin": lambda x: torch.where(x > 1, torch.full_like(x, float("nan")), torch.cos(x - 1.5)),
    "neg": lambda x: torch.sub(torch.zeros_like(x), x).double(),
    "rsqrt": _refuses,
}


class StandIn:
    """``flag_gems.use_gems``; ``ghost`` is asked for and not taken."""

    keys = [*KERNELS, "ghost"]

    def __init__(self, exclude: list[str]) -> None:
        self.exclude = exclude

    def __enter__(self) -> None:
        self.lib = torch.library.Library("aten", "IMPL")
        for name, kernel in KERNELS.items():
            if name not in self.exclude:
                self.lib.impl(name, kernel, "CPU")

    def __exit__(self, *_: object) -> None:
        self.lib._destroy()


FLAG_GEMS = SimpleNamespace(use_gems=StandIn, all_registered_keys=lambda: StandIn.keys)


def work(base: Any) -> None:
    """Two views of one memory; the second is written in place."""
    upper, lower = base[:4].t(), base[4:].t()
    torch.nn.functional.silu(upper)
    lower.add_(upper)
    torch.sin(base)
    torch.neg(base)
    torch.rsqrt(base)


def main() -> None:
    source = torch.Generator().manual_seed(7)
    base = torch.randn(8, 5, generator=source)
    watch = Watch(keep=True)
    with torch.no_grad():
        with watch.mode():
            work(base)
        wanted = {"aten::" + name for name in KERNELS}
        samples = {c: s for c, s in watch.samples.items() if c.split("(")[0] in wanted}
        before = base.clone()

        def with_gems(work: Any) -> Any:
            with enabled(FLAG_GEMS, ["exp"]):
                return work()

        rows = comparing.compared(samples, with_gems, lambda work: work())
        with enabled(FLAG_GEMS, ["silu"]) as registered:
            pass
        func, args, _ = comparing.copies(next(s for c, s in samples.items() if "add_" in c))
        again = torch.equal(torch.sin(base), base.sin())
    json.dump(
        {
            "rows": rows,
            "registered": sorted(registered),
            "inputs_kept": torch.equal(base, before),
            "native_again": again and bool(torch.sin(base).isfinite().all()),
            "strides": [list(value.stride()) for value in args],
            "offsets": [value.storage_offset() for value in args],
            "one_memory": len({value.untyped_storage().data_ptr() for value in args}) == 1,
            "own_memory": args[0].untyped_storage().data_ptr() != base.untyped_storage().data_ptr(),
            "in_place": str(func),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
