"""Paths that mean the same on two hosts: each is told by the place that it lies in.

``/@home/store/blobs/ab/...`` is below relforge's home, ``/@root0/manifests/...`` below the first
root of the project, ``/@dist/...`` below the folder of releases, and ``/@out/mnt/weights/...``
anywhere else. Whoever receives one puts it below the place of that name of his own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from relforge.files import Output
from relforge.frozen import Frozen

T = TypeVar("T")
_MARK = "@"
HOME = Path("/@home")
"""Where a told path begins that lies in relforge's home."""


@dataclass(frozen=True)
class Places:
    """The places of one host. ``roots`` are those of the project, ``outside`` is for the rest."""

    home: Path
    dist: Path
    roots: tuple[Path, ...]
    outside: Path | None = None
    """None: what lies elsewhere stays what it is when it comes back (the driver's)."""

    def told(self, path: Path) -> Path:
        """One of this host's paths as another host understands it."""
        # A home may lie in a project, and a sent project lies in a home: the nearest counts.
        around = [(n, place) for n, place in self._named() if path.is_relative_to(place)]
        if around:
            name, place = max(around, key=lambda one: len(one[1].parts))
            return Path("/") / f"{_MARK}{name}" / path.relative_to(place)
        return Path("/") / f"{_MARK}out" / path.relative_to(path.anchor)

    def here(self, told: Path) -> Path:
        """A told path on this host. Raises ValueError for one that leads out of its place."""
        parts = PurePosixPath(told).parts
        if len(parts) < 2 or parts[0] != "/" or not parts[1].startswith(_MARK):
            return told  # it was never changed
        if ".." in parts:
            raise ValueError(f"{told} leads out of its place")
        name, rest = parts[1].removeprefix(_MARK), parts[2:]
        if name == "out":
            place = Path("/") if self.outside is None else self.outside
        else:
            places = dict(self._named())
            if name not in places:
                raise ValueError(f"{told}: this host has no place of that name")
            place = places[name]
        return place.joinpath(*rest)

    def _named(self) -> Iterator[tuple[str, Path]]:
        yield from ((f"root{number}", root) for number, root in enumerate(self.roots))
        yield "home", self.home
        yield "dist", self.dist
        if self.outside is not None:
            yield "out", self.outside


def moved(value: T, change: Callable[[Path], Path]) -> T:
    """The same value with every path in it changed; models keep their types."""
    result: Any = value
    if isinstance(value, Path):
        result = change(value)
    elif isinstance(value, Frozen):
        changes = {}
        for name in type(value).model_fields:
            before = getattr(value, name)
            after = moved(before, change)
            if after is not before:
                changes[name] = after
        if changes:
            result = value.model_copy(update=changes)
    elif isinstance(value, tuple):
        items = [moved(one, change) for one in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            result = type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    elif isinstance(value, list):
        result = [moved(one, change) for one in value]
    elif isinstance(value, Mapping):
        items_by_key = {key: moved(one, change) for key, one in value.items()}
        if any(items_by_key[key] is not value[key] for key in value):
            result = items_by_key
    return result  # type: ignore[no-any-return]


def outputs_in(value: Any) -> Iterator[Output]:
    """Every file that a result owns, wherever in it it stands."""
    if isinstance(value, Output):
        yield value
    elif isinstance(value, Frozen):
        for name in type(value).model_fields:
            yield from outputs_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from outputs_in(one)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for one in value:
            yield from outputs_in(one)


def stamped(value: T, stamps: Mapping[Path, Output]) -> T:
    """The same value with the stamps that files have on this host, so that nobody hashes them."""
    result: Any = value
    if isinstance(value, Output):
        result = stamps.get(value.path, value)
    elif isinstance(value, Frozen):
        changes = {}
        for name in type(value).model_fields:
            before = getattr(value, name)
            after = stamped(before, stamps)
            if after is not before:
                changes[name] = after
        if changes:
            result = value.model_copy(update=changes)
    elif isinstance(value, tuple) and not hasattr(value, "_fields"):
        items = tuple(stamped(one, stamps) for one in value)
        if any(a is not b for a, b in zip(items, value, strict=True)):
            result = items
    elif isinstance(value, Mapping):
        by_key = {key: stamped(one, stamps) for key, one in value.items()}
        if any(by_key[key] is not value[key] for key in value):
            result = by_key
    return result  # type: ignore[no-any-return]
