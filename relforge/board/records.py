"""Release records as the board finds them: the newest of each release, and those before it."""

from __future__ import annotations

import calendar
import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.card.model import Said
from relforge.publishing.published import RECORD

_UNREADABLE = (OSError, ValueError, TypeError, KeyError, RecursionError)
_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Found:
    """A record on disk, by its head alone. ``current``: it lies in a dist folder."""

    path: Path
    release: str
    created_s: float
    digest: str
    current: bool

    @property
    def folder(self) -> Path:
        return self.path.parent


@dataclass(frozen=True)
class Records:
    """``by_release`` has the newest record first. ``problems``: files that are no records."""

    by_release: Mapping[str, tuple[Found, ...]]
    problems: tuple[Said, ...]

    def again(self, release: str, dists: Sequence[Path]) -> Records:
        """The same with what dist folders have of one release now, in its folder of that name."""
        known = [one for one in self.by_release.get(release, ()) if not one.current]
        plain = "/" not in release and release not in (".", "..")
        for dist in dists if plain else ():
            path = dist / release / RECORD
            with contextlib.suppress(*_UNREADABLE):
                if (found := _head(path, read(path), current=True)).release == release:
                    known.append(found)
        return Records({**self.by_release, release: _sorted(known)}, self.problems)


def find_records(dists: Sequence[Path], history: Sequence[Path] = ()) -> Records:
    """Records in ``dist/*/release.json``, and anywhere below the folders of *history*.

    A release's record is the newest one in a dist folder; every other one is an earlier one.
    """
    found: dict[str, list[Found]] = {}
    problems: list[Said] = []
    seen: set[Path] = set()
    for path, current in _files(dists, history):
        if (real := path.resolve()) in seen:
            continue
        seen.add(real)
        try:
            record = _head(path, read(path), current=current)
        except _UNREADABLE as error:
            why = getattr(error, "strerror", None) or str(error)
            problems.append(
                Said(text="%(file)s: no release record: %(why)s",
                     values={"file": f"{path.parent.name}/{path.name}", "why": why})
            )  # fmt: skip
            continue
        found.setdefault(record.release, []).append(record)
    return Records(
        {name: _sorted(records) for name, records in sorted(found.items())}, tuple(problems)
    )


def read(path: Path) -> dict[str, Any]:
    """The record as it is. Raises OSError, ValueError."""
    parsed = json.loads(path.read_bytes())
    if not isinstance(parsed, dict):
        raise ValueError("it holds no JSON object")
    return parsed


def seconds_of(created: str) -> float:
    """The time that a record names. Raises ValueError."""
    return float(calendar.timegm(time.strptime(created, _FORM)))


def _files(dists: Iterable[Path], history: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    for dist in dists:
        for path in sorted(dist.glob(f"*/{RECORD}")):
            if not path.parent.name.startswith("."):  # half-published
                yield path, True
    for folder in history:
        for path in sorted(folder.rglob(RECORD)):
            yield path, False


def _head(path: Path, record: Mapping[str, Any], *, current: bool) -> Found:
    release, digest, created = record["release"], record["image_digest"], record["created"]
    if not isinstance(release, str) or not release:
        raise ValueError("it names no release")
    return Found(path, release, seconds_of(str(created)), str(digest), current)


def _sorted(records: Iterable[Found]) -> tuple[Found, ...]:
    """The newest of the dist folders first, then all others, newest first."""

    def order(one: Found) -> tuple[bool, float, str]:
        return one.current, one.created_s, str(one.path)

    return tuple(sorted(records, key=order, reverse=True))
