"""The base of every value that travels between rooms: frozen, closed, picklable."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value object that refuses unknown fields."""

    # Validators are built at their first use: a command has hundreds of classes and uses few.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces (the subset of RFC 8785 that our data needs)."""
    # A file name that is not UTF-8 keeps its very bytes.
    return _text(value).encode("utf-8", "surrogateescape")


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of *data* as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def content_key(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON.

    That of a frozen object that was asked for a moment ago is not computed again: several stages
    ask for the key of one lock.
    """
    if isinstance(value, Frozen):
        return _keys.of(value, lambda asked: sha256_hex(canonical_json(asked)))
    return sha256_hex(canonical_json(value))


class _Recent:
    """What was made of the frozen objects that were asked for last."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.known: OrderedDict[int, tuple[Frozen, str]] = OrderedDict()

    def of(self, value: Frozen, make: Callable[[Frozen], str]) -> str:
        known = self.known.pop(id(value), None)
        # With the object itself, so that no other one can get its id.
        found = (value, make(value)) if known is None else known
        self.known[id(value)] = found
        if len(self.known) > self.most:
            self.known.popitem(last=False)
        return found[1]


_keys = _Recent(64)
_texts = _Recent(256)


def _text(value: Any) -> str:
    """What a frozen object holds of others is written by itself, and once: a device is part of the
    keys of all its releases, the wheels of a lock are part of three."""
    if isinstance(value, Frozen):
        parts = _held(value)
        if parts:
            plain = value.model_dump(mode="json", exclude=set(parts))
            return _joined(plain, {name: _texts.of(part, _text) for name, part in parts.items()})
    elif isinstance(value, dict):
        texts = {name: _text(part) for name, part in value.items() if isinstance(part, Frozen)}
        if texts:
            return _joined(value, texts)
    return _ENCODER.encode(value)


def _joined(values: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """The canonical JSON of *values* and of what *texts* has the canonical JSON of."""
    encode = _ENCODER.encode
    names = sorted({*values, *texts})
    rows = (f"{encode(n)}:{texts[n] if n in texts else encode(values[n])}" for n in names)
    return "{" + ",".join(rows) + "}"


def _held(value: Frozen) -> dict[str, Frozen]:
    """The fields whose object is dumped as it is dumped alone."""
    declared = _declared(type(value))
    found = {name: getattr(value, name) for name in declared}
    return {name: part for name, part in found.items() if type(part) is declared[name]}


@lru_cache(maxsize=256)
def _declared(model: type[Frozen]) -> dict[str, type[Frozen]]:
    """The fields of a model that are of one frozen type, where it leaves dumping to pydantic."""
    own = model.__pydantic_decorators__
    if own.model_serializers or own.field_serializers:
        return {}
    return {
        name: field.annotation
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
)
