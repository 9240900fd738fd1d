"""The console: one line per stage with its result and time, live last log lines on a terminal."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Protocol

from relforge.stage import Event, StageFinished, StageLine, StageStarted
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
    return (
        f"{mark} {event.stage:<{_NAME_WIDTH}} {event.status:<8}{time:>12}  {verdict}{event.detail}"
    )


class PlainListener:
    """One line when a stage starts to work, one when it ends: for logs and CI."""

    def __init__(self, *, only_failures: bool = False) -> None:
        self._only_failures = only_failures

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageFinished):
            if event.status == "failed" or not self._only_failures:
                print(finished_line(event), file=sys.stderr, flush=True)  # noqa: T201
        elif isinstance(event, StageStarted) and not self._only_failures:
            print(f"> {event.stage}", file=sys.stderr, flush=True)  # noqa: T201

    def close(self) -> None:
        """Nothing is held open."""


class LiveListener:
    """A running stage shows a spinner and its last log lines, which vanish when it ends."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: RichConsole = Console(stderr=True, highlight=False)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._live: Live | None = None
        self._stage = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self._start(event)
        elif isinstance(event, StageLine):
            if event.text.strip():
                self._tail.append(event.text)
                self._refresh()
        else:
            self._finish(event)

    def _start(self, event: StageStarted) -> None:
        from rich.live import Live

        self._stage = event.stage
        self._tail.clear()
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
        self._live.update(Group(Spinner("dots", text=Text(self._stage)), *lines))

    def _finish(self, event: StageFinished) -> None:
        from rich.text import Text

        self.close()
        line = Text(finished_line(event))
        style = _MARKS[event.status][1]
        if event.status == "skipped":
            line.stylize(style)
        else:
            line.stylize(style, 0, 1)
        self._console.print(line)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
