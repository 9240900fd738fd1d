"""What happens in runs, as it is written: the end of each ``events.jsonl``, read again and again.

Nothing is asked of the runs themselves: whoever writes them, the page sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from relforge.events import EVENT, Event, ReleaseFinished, RunFinished, RunStarted, StageLine
from relforge.evidence.reading_runs import read_run
from relforge.evidence.run_folder import EVENTS

_MOST_LINES = 50
"""Of stages' logs, between two looks: a page shows fewer."""
_RESUMED_EVERY = 10
"""Looks, between those that also look for ended runs that go on."""


@dataclass(frozen=True)
class Happened:
    """New events of a run. ``over``: releases that it has to be read again for."""

    run: str
    events: tuple[Event, ...]
    over: tuple[str, ...] = ()


@dataclass
class _Tail:
    """A run that is at work: how far its stream was read, and what it said, but for lines."""

    folder: Path
    position: int = 0
    told: list[Event] = field(default_factory=list)

    @property
    def releases(self) -> tuple[str, ...]:
        started = (one for one in self.told if isinstance(one, RunStarted))
        return tuple(dict.fromkeys(name for one in started for name in one.releases))

    def new(self) -> tuple[Event, ...]:
        """Events that came since; a line that is not whole yet is left for the next time."""
        try:
            with (self.folder / EVENTS).open("rb") as file:
                file.seek(self.position)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return ()
        if not whole:
            return ()
        self.position += len(whole) + 1
        found: list[Event] = []
        for row in whole.split(b"\n"):
            try:
                found.append(EVENT.validate_json(row))
            except ValidationError:
                continue  # cut off by a kill
        self.told += [one for one in found if not isinstance(one, StageLine)]
        return tuple(found)


class Follower:
    """Looks at ``<home>/runs``. ``ended``: ids of runs that need no look, as they have ended."""

    def __init__(self, home: Path, ended: Iterable[str] = ()) -> None:
        self._runs = home / "runs"
        self._tails: dict[str, _Tail] = {}
        self._ended = {name: _size(self._runs / name / EVENTS) for name in ended}
        self._looks = 0
        self._lock = threading.Lock()

    def look(self) -> list[Happened]:
        """What happened since the last look."""
        with self._lock:
            self._find()
            read = [self._read(run, tail) for run, tail in list(self._tails.items())]
            return [one for one in read if one is not None]

    def so_far(self) -> list[Happened]:
        """What is known of the runs that are at work, for a page that opens now."""
        with self._lock:
            return [Happened(run, tuple(tail.told)) for run, tail in self._tails.items()]

    def folder(self, run: str) -> Path:
        return self._runs / run

    def _find(self) -> None:
        try:
            names = {path.name for path in self._runs.iterdir()}
        except OSError:
            return
        for name in sorted(names - set(self._ended) - set(self._tails)):
            run = read_run(self._runs / name)
            if run is not None and run.state != "running":
                self._ended[name] = _size(self._runs / name / EVENTS)
            elif run is not None:  # else it has only just been made
                self._tails[name] = _Tail(self._runs / name)
        self._looks += 1
        if self._looks % _RESUMED_EVERY == 0:
            for name, size_bytes in list(self._ended.items()):
                if _size(self._runs / name / EVENTS) > size_bytes:
                    del self._ended[name]

    def _read(self, name: str, tail: _Tail) -> Happened | None:
        # Before its events are read: what it wrote last is read then.
        run = read_run(tail.folder)
        events = tail.new()
        over = [one.release for one in events if isinstance(one, ReleaseFinished)]
        if run is not None and run.state != "running":
            # Written after the last event; or its process is gone, and wrote nothing.
            self._ended[name] = tail.position
            del self._tails[name]
            over += [*tail.releases, *(one.release for one in run.releases)]
            if not any(isinstance(one, RunFinished) for one in tail.told):
                last = RunFinished(state=run.state, exit_code=1, time_s=run.ended_s or 0.0)
                events = (*events, last)
        if not events and not over:
            return None
        return Happened(name, _few_lines(events), tuple(dict.fromkeys(over)))


def _few_lines(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """The same without the earlier ones of many log lines."""
    lines = [place for place, one in enumerate(events) if isinstance(one, StageLine)]
    dropped = set(lines[:-_MOST_LINES])
    return tuple(one for place, one in enumerate(events) if place not in dropped)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
