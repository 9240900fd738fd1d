"""The base of every value that travels between rooms: frozen, closed, picklable."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value object that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces (the subset of RFC 8785 that our data needs)."""
    # A file name that is not UTF-8 keeps its very bytes.
    return _ENCODER.encode(value).encode("utf-8", "surrogateescape")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
)
_keys: deque[tuple[Frozen, str]] = deque(maxlen=4)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of *data* as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def content_key(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON.

    That of a frozen object that was asked for a moment ago is not computed again: several stages
    ask for the key of one lock.
    """
    if not isinstance(value, Frozen):
        return sha256_hex(canonical_json(value))
    for known, key in _keys:
        if known is value:
            return key
    key = sha256_hex(canonical_json(value))
    _keys.append((value, key))
    return key
