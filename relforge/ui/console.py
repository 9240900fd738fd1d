"""The console: one line per stage with its result and time, live last log lines on a terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from relforge.events import (
    Event,
    ReleaseFinished,
    RunStarted,
    StageFinished,
    StageLine,
    StageRetried,
    StageStarted,
    StageWaiting,
)
from relforge.ui.text import duration

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.live import Live

_TAIL_LINES = 5
_NAME_WIDTH = 10
_MARKS = {
    "ran": ("✓", "green"),
    "reused": ("=", "cyan"),
    "skipped": ("·", "bright_black"),
    "failed": ("✗", "red"),
}


class Listener(Protocol):
    """Reads the event stream; closed when the run ends."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make_listener(*, quiet: bool = False) -> Listener:
    """Live on a terminal, plain lines otherwise; only failures when *quiet*."""
    if quiet:
        return PlainListener(only_failures=True)
    return LiveListener() if sys.stderr.isatty() else PlainListener()


def finished_line(event: StageFinished) -> str:
    """``✓ build      ran      41 s   sha256:…`` without colour."""
    mark = _MARKS[event.status][0]
    time = "" if event.status == "skipped" else duration(event.seconds)
    verdict = f"[{event.verdict}] " if event.verdict else ""
    shared = f" (with {event.shared_with})" if event.shared_with else ""
    return (
        f"{mark} {event.stage:<{_NAME_WIDTH}} {event.status:<8}{time:>12}  "
        f"{verdict}{event.detail}{shared}"
    )


def _told(event: Event) -> str | None:
    """One line for what happens beside the stages' ends; None: it is not worth one."""
    if isinstance(event, StageWaiting):
        return f"- {event.stage} waits {event.why}"
    if isinstance(event, StageRetried):
        return f"! {event.stage} is tried again, {event.attempt} of {event.of}: {event.why}"
    return None


class _Several:
    """Whether lines have to say which release they are about, and how long its name may be."""

    def __init__(self) -> None:
        self.width = 0

    def look(self, event: Event) -> None:
        if isinstance(event, RunStarted) and len(event.releases) > 1:
            self.width = max(map(len, event.releases))

    def before(self, release: str) -> str:
        return f"{release:<{self.width}}  " if self.width else ""


class PlainListener:
    """One line when a stage starts to work, one when it ends: for logs and CI."""

    def __init__(self, *, only_failures: bool = False) -> None:
        self._only_failures = only_failures
        self._several = _Several()

    def __call__(self, event: Event) -> None:
        self._several.look(event)
        line: str | None = None
        failure = isinstance(event, StageFinished) and event.status == "failed"
        if self._only_failures and not failure:
            return
        if isinstance(event, StageFinished):
            if event.status == "skipped" and self._several.width:
                return  # of many releases the same few reasons, over and over
            line = finished_line(event)
        elif isinstance(event, StageStarted):
            line = f"> {event.stage}" + (f" on {event.host}" if event.host else "")
        else:
            line = _told(event)
        if line is not None and isinstance(
            event, (StageFinished, StageStarted, StageWaiting, StageRetried)
        ):
            print(f"{self._several.before(event.release)}{line}", file=sys.stderr, flush=True)  # noqa: T201

    def close(self) -> None:
        """Nothing is held open."""


class LiveListener:
    """What runs shows a spinner and, of one release, its last log lines, which then vanish."""

    def __init__(self, console: RichConsole | None = None) -> None:
        from rich.console import Console

        self._console: RichConsole = console or Console(stderr=True, highlight=False)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._live: Live | None = None
        self._several = _Several()
        self._at_work: dict[str, tuple[str, float]] = {}
        """Stage and when it began, by release."""
        self._left = 0

    def __call__(self, event: Event) -> None:
        self._several.look(event)
        if isinstance(event, RunStarted):
            self._left = len(event.releases)
        elif isinstance(event, StageStarted):
            self._start(event)
        elif isinstance(event, StageLine):
            if event.text.strip() and not self._several.width:
                self._tail.append(event.text)
                self._refresh()
        elif isinstance(event, StageFinished):
            self._finish(event)
        elif isinstance(event, ReleaseFinished):
            self._left -= 1
            self._at_work.pop(event.release, None)
            self._refresh()
        elif isinstance(event, (StageWaiting, StageRetried)) and (line := _told(event)) is not None:
            self._console.print(f"{self._several.before(event.release)}{line}", style="dim")

    def _start(self, event: StageStarted) -> None:
        from rich.live import Live

        self._at_work[event.release] = (event.stage, time.monotonic())
        self._tail.clear()
        if self._live is None:
            self._live = Live(console=self._console, transient=True, refresh_per_second=8)
            self._live.start()
        self._refresh()

    def _refresh(self) -> None:
        if self._live is None:
            return
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        width = max(20, self._console.width - 4)
        lines = [Text(f"    {line[:width]}", style="bright_black") for line in self._tail]
        now = time.monotonic()
        shown = [
            f"{self._several.before(release)}{stage}"
            + (f"  {duration(now - began)}" if self._several.width else "")
            for release, (stage, began) in self._at_work.items()
        ]
        if self._several.width:
            waiting = self._left - len(self._at_work)
            lines = [Text(f"  {waiting} releases wait", style="bright_black")] if waiting else []
        self._live.update(Group(*(Spinner("dots", text=Text(row)) for row in shown), *lines))

    def _finish(self, event: StageFinished) -> None:
        from rich.text import Text

        self._at_work.pop(event.release, None)
        if self._at_work:
            self._refresh()
        else:
            self.close()
        if event.status == "skipped" and self._several.width:
            return
        before = self._several.before(event.release)
        line = Text(before + finished_line(event))
        style = _MARKS[event.status][1]
        if event.status == "skipped":
            line.stylize(style)
        else:
            line.stylize(style, len(before), len(before) + 1)
        self._console.print(line)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
