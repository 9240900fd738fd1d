"""The base of every value that travels between rooms: frozen, closed, picklable."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value object that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces (the subset of RFC 8785 that our data needs)."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    ).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of *data* as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def content_key(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON."""
    return sha256_hex(canonical_json(value))
