"""FlagGems' interface with a few operators for torch's CPU, so that a tuning runs without a GPU.

They compute what torch does, in another way. ``record`` writes nothing: what ran is not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def silu(x: Any) -> Any:
    return x / (1 + torch.exp(-x))


def rsqrt(x: Any) -> Any:
    return torch.reciprocal(torch.sqrt(x))


def mm(a: Any, b: Any) -> Any:
    return torch.bmm(a[None], b[None])[0]


def cos(x: Any) -> Any:
    return torch.polar(torch.ones_like(x), x).real.clone()


def sin(x: Any) -> Any:
    return torch.polar(torch.ones_like(x), x).imag.clone()


def tan(x: Any) -> Any:
    return torch.sin(x) / torch.cos(x)


_UNUSED = tuple(f"unused_{number}" for number in range(30))


def _named(name: str) -> Any:
    def unused(x: Any) -> Any:
        return x

    unused.__name__ = name
    return unused


_FULL_CONFIG: tuple[tuple[Any, ...], ...] = (
    ("silu", silu),
    ("rsqrt", rsqrt),
    ("mm", mm),
    ("cos", cos),
    ("sin", sin),
    ("tan", tan, lambda: True),
    *((None, _named(name)) for name in _UNUSED),
)


class use_gems:
    """As FlagGems' own."""

    def __init__(self, exclude: Any = None, record: bool = False, path: Any = None) -> None:
        self.exclude = exclude or []
        if record:
            Path(path).touch()

    def __enter__(self) -> None:
        self.lib = torch.library.Library("aten", "IMPL")
        for entry in _FULL_CONFIG:
            if entry[0] is not None and entry[1].__name__ not in self.exclude:
                self.lib.impl(entry[0], entry[1], "CPU")

    def __exit__(self, *_: object) -> None:
        self.lib._destroy()
