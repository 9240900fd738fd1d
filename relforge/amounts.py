"""Ages, times and sizes as people write them in options: ``30d``, ``2026-11-29``, ``50GB``."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from relforge.errors import ExitCode, RelforgeError

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_AMOUNT = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$")
_RUN_ID = "%Y%m%dT%H%M%SZ"
_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", _RUN_ID)


def age_s(text: str, option: str) -> float:
    """Seconds of ``90s``, ``15m``, ``12h``, ``30d``, ``4w``; ``0`` needs no unit.

    Raises RelforgeError (USAGE) that names the option.
    """
    found = _AMOUNT.match(text.strip())
    if found is not None:
        number, unit = float(found[1]), found[2].lower()
        if unit in _SECONDS:
            return number * _SECONDS[unit]
        if not unit and number == 0:
            return 0.0
    raise _unclear(option, text, "an age is a number with s, m, h, d or w: 12h, 30d")


def size_bytes(text: str, option: str) -> int:
    """Bytes of ``50GB`` (decimal) or ``50GiB`` (binary); ``0`` needs no unit.

    Raises RelforgeError (USAGE).
    """
    found = _AMOUNT.match(text.strip())
    if found is not None and not found[2] and float(found[1]) == 0:
        return 0
    if found is not None and found[2].lower() in _BYTES:
        return int(float(found[1]) * _BYTES[found[2].lower()])
    raise _unclear(option, text, "a size is a number with kB, MB, GB, TB or KiB ... TiB: 50GB")


def time_s(text: str, option: str, *, now_s: float) -> float:
    """Seconds since 1970 of a time in UTC, or of an age before now.

    Raises RelforgeError (USAGE).
    """
    for form in _TIMES:
        try:
            found = datetime.strptime(text.strip(), form).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        return found.timestamp()
    try:
        return now_s - age_s(text, option)
    except RelforgeError:
        raise _unclear(
            option, text, "a time is an age (12h, 7d) or UTC: 2026-11-29, 2026-11-29T14:00"
        ) from None


def _unclear(option: str, text: str, why: str) -> RelforgeError:
    return RelforgeError(
        f"{option}: {text!r} is not understood", code=ExitCode.USAGE, why=why,
        hint=f"write {option} in one of these ways",
    )  # fmt: skip
