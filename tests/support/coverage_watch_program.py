"""Runs in the image: what ``Watch`` sees of real torch in inference mode, as vLLM computes.

Prints the operators in order, once with the Python-written custom operator opened, once without.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from relforge.coverage.probe import lazy
from relforge.coverage.probe.dispatch import Watch

torch = lazy("torch")


def attention(x: Any) -> Any:
    """A custom operator as vLLM's are: Python, registered for one device."""
    return torch.mm(x, x).add_(1.0)


def main() -> None:
    library = torch.library.Library("vllm", "FRAGMENT")
    library.define("attention(Tensor x) -> Tensor")
    library.impl("attention", attention, "CPU")
    # One that is registered for every device at once, as some of vLLM's C++ are.
    native = torch.library.Library("_own", "FRAGMENT")
    native.define("scale(Tensor x) -> Tensor")
    native.impl("scale", lambda x: torch.mul(x, 2.0), "CompositeImplicitAutograd")
    seen = {}
    results = []
    for name, opened in (("opened", frozenset({"vllm"})), ("closed", frozenset())):
        watch = Watch(opened=opened)
        x, weight, bias = torch.eye(4), torch.ones(3, 4), torch.ones(3)
        with torch.inference_mode():
            rows = [t.clone() for t in (x, weight, bias)]
            with watch.mode():
                y = torch.ops.vllm.attention(rows[0])
                y = torch.ops._own.scale(y)
                # A composite of torch's: its parts are what the device computes.
                results.append(torch.nn.functional.linear(y, rows[1], rows[2]))
        seen[name] = watch.names
    json.dump({**seen, "sum": float(results[0].sum()), "same": torch.equal(*results)}, sys.stdout)


if __name__ == "__main__":
    main()
