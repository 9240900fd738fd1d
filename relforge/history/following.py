"""A run's events as lines, up to its end: what is there, then what comes.

Read from the file alone, so that it works for a run of any process, or user, that shares the home.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from relforge.events import (
    EVENT,
    Event,
    ReleaseFinished,
    RunFinished,
    RunStarted,
    StageFinished,
    StageLine,
    StageRetried,
    StageStarted,
    StageWaiting,
)
from relforge.evidence.reading_runs import owner_gone
from relforge.evidence.run_folder import EVENTS

_POLL_S = 0.2


def events(folder: Path, *, pause: Callable[[float], None] = time.sleep) -> Iterator[Event | None]:
    """The events of the run's newest attempt as they are written; None where it has caught up.

    Ends after the attempt's end, or when the process that worked on it is gone.
    """
    path = folder / EVENTS
    left = b""
    with path.open("rb") as file:
        file.seek(_newest_attempt(path))
        gone = False
        while True:
            chunk = file.read()
            *rows, left = (left + chunk).split(b"\n")
            for row in rows:
                try:
                    event = EVENT.validate_json(row)
                except ValidationError:
                    continue  # a kill cut it off
                yield event
                if isinstance(event, RunFinished):
                    return
            if chunk:
                continue
            if gone:
                return  # and what it wrote last was read
            yield None
            gone = owner_gone(folder)
            if not gone:
                pause(_POLL_S)


def _newest_attempt(path: Path) -> int:
    """Where in the file the newest attempt begins."""
    found = position = 0
    with path.open("rb") as file:
        for row in file:
            if b'"run-started"' in row[:40]:
                found = position
            position += len(row)
    return found


class Lines:
    """Events as lines of text; of one release or stage only, where these are named.

    Of stages that had ended before the reader caught up, only their end is told: their logs are
    whole, and ``relforge runs logs`` prints them.
    """

    def __init__(self, *, release: str | None = None, stage: str | None = None) -> None:
        self._release, self._stage = release, stage
        self._several = 0
        self._early: dict[tuple[str, str], list[str]] | None = {}

    def __call__(self, event: Event | None) -> list[str]:
        """What is to be printed now."""
        if event is None:
            early, self._early = self._early or {}, None
            return [line for lines in early.values() for line in lines]
        if isinstance(event, RunStarted):
            self._several = max(map(len, event.releases), default=0)
            self._several *= len(event.releases) > 1 and self._release is None
            return []
        if isinstance(event, RunFinished):
            return [*self(None), f"run {event.state}, exit code {event.exit_code}"]
        if self._release not in (None, event.release):
            return []
        if isinstance(event, ReleaseFinished):
            return [f"{self._before(event.release)}{event.state}"] if self._several else []
        if self._stage not in (None, event.stage):
            return []
        return self._of_stage(event)

    def _of_stage(
        self, event: StageStarted | StageWaiting | StageLine | StageRetried | StageFinished
    ) -> list[str]:
        place = (event.release, event.stage)
        text = f"{self._before(event.release)}{_text(event)}"
        if self._early is None:
            return [text]
        if isinstance(event, StageFinished):
            lines = self._early.pop(place, [])
            # Of the one stage that was asked for everything is wanted.
            return [*(lines if self._stage else ()), text]
        self._early.setdefault(place, []).append(text)
        return []

    def _before(self, release: str) -> str:
        return f"{release:<{self._several}}  " if self._several else ""


def _text(event: StageStarted | StageWaiting | StageLine | StageRetried | StageFinished) -> str:
    if isinstance(event, StageStarted):
        return f"> {event.stage}" + (f" on {event.host}" if event.host else "")
    if isinstance(event, StageWaiting):
        return f"- {event.stage} waits {event.why}"
    if isinstance(event, StageRetried):
        return f"! {event.stage} is tried again, {event.attempt} of {event.of}: {event.why}"
    if isinstance(event, StageFinished):
        from relforge.ui.console import finished_line

        return finished_line(event)
    return f"  {event.stage} | {event.text}"
