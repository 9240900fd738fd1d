"""Figures and errors in words, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from relforge.errors import RelforgeError

_NAMED = 3
_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count_bytes: float) -> str:
    """Bytes with a decimal unit: 1234567 is ``1.2 MB``."""
    value = float(count_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``0.2 s``, ``41 s``, ``3 min 05 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def error(failed: RelforgeError) -> str:
    """An error as it is printed; continuation lines are indented under their label."""
    rows = []
    for label, text in failed.lines():
        head = f"  {label:<7}" if label else "error: "
        lines = text.splitlines() or [""]
        pad = " " * len(head)
        rows.append(head + lines[0])
        rows.extend(pad + line for line in lines[1:])
    return "\n".join(rows)


def several(names: Sequence[str]) -> str:
    """Names of which the first few are told: ``a``, or ``12 releases (a, b, c, ...)``."""
    if len(names) == 1:
        return names[0]
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} releases ({shown})"
