"""The board as a server: the same page, made anew where something ended, and what happens now.

It answers to its own names alone, and gives the board's files and the evidence of the releases that
it shows, nothing else of the disk.
"""

from __future__ import annotations

import json
import queue
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from relforge.board.building import Board
from relforge.board.detail import evidence_id, shown_files
from relforge.board.folder import drawn
from relforge.board.following import Follower, Happened
from relforge.board.page import assets, details_script, html
from relforge.publishing.published import RECORD

_BEHIND = 1000
"""Messages that a page may be behind; one that is further is left, and asks again."""
_MOST_CHARTS = 64


class Message(NamedTuple):
    """What kind it is, and its JSON. ``at``: where whoever lost touch goes on after it."""

    kind: str
    data: str
    at: str | None = None


class Served:
    """A board that is kept as things are. ``step`` looks for what is new."""

    def __init__(self, board: Board) -> None:
        self._board = board
        runs = [(one.run, one.state) for of in board.runs.values() for one in of]
        at_work = {run for run, state in runs if state == "running"}
        self._follower = Follower(board.origin.home, {run for run, _ in runs} - at_work)
        self._assets = assets()
        self._lock = threading.RLock()
        self._drawing = threading.Lock()
        self._charts: dict[str, bytes] = {}
        self._pages: set[queue.Queue[Message]] = set()
        self._id = secrets.token_hex(8)
        self._made: dict[str, int] = {}
        """Releases that were made anew, and when that was: the last of them after all others."""
        self._stamps = self._records()

    def step(self) -> None:
        """Tells the open pages what happened, and makes anew the releases that it is about."""
        happened = self._follower.look()
        for one in happened:
            self._tell(_run_message(one))
        dirty: set[str] = set()
        with self._lock:
            for one in happened:
                if one.over:
                    self._board.note_run(self._follower.folder(one.run))
                dirty.update(one.over)
            dirty |= self._new_records()
            for release in sorted(dirty):
                self._board.make_again(release)
                self._made[release] = self._last + 1
            made = [self._release_message(release) for release in sorted(dirty)]
        for message in made:
            self._tell(message)

    def file(self, path: str) -> tuple[bytes, str] | None:
        """Content and media type of a file of the board, or of evidence; None: there is none."""
        if path in ("", "index.html"):
            with self._lock:
                page = html(self._board.index, live=self._at(self._last))
            return page, "text/html; charset=utf-8"
        if path in self._assets:
            return self._assets[path], _media_type(path)
        folder, _, name = path.partition("/")
        if folder == "releases":
            return self._details(path)
        if folder == "charts":
            return self._chart(path)
        if folder == "evidence":
            return self._evidence(name)
        return None

    def listen(self, after: str | None = None) -> Iterator[Message | None]:
        """What happens from now on, after what is known of runs at work; None: nothing now.

        ``after`` says how far the page knows: releases that were made anew between then and now
        come first. ``stale`` where that cannot be told, as another server made the page.
        """
        page: queue.Queue[Message] = queue.Queue(_BEHIND)
        with self._lock:
            known = [*self._missed(after), *map(_run_message, self._follower.so_far())]
            self._pages.add(page)
        try:
            yield from known
            while page in self._pages:
                try:
                    yield page.get(timeout=1)
                except queue.Empty:
                    yield None
        finally:
            self._pages.discard(page)

    def close(self) -> None:
        """The open pages are left."""
        self._pages.clear()

    @property
    def _last(self) -> int:
        return max(self._made.values(), default=0)

    def _at(self, number: int) -> str:
        return f"{self._id}-{number}"

    def _release_message(self, release: str) -> Message:
        text = self._board.made[release].entry.model_dump_json()
        return Message("release", text, self._at(self._made[release]))

    def _missed(self, after: str | None) -> list[Message]:
        if after is None:
            return []
        server, _, number = after.partition("-")
        if server != self._id or not number.isdecimal():
            return [Message("stale", "{}")]
        missed = sorted((at, one) for one, at in self._made.items() if at > int(number))
        return [self._release_message(release) for _, release in missed]

    def _tell(self, message: Message) -> None:
        for page in list(self._pages):
            try:
                page.put_nowait(message)
            except queue.Full:
                self._pages.discard(page)

    def _details(self, path: str) -> tuple[bytes, str] | None:
        with self._lock:
            for made in self._board.made.values():
                if made.entry.file == path:
                    return details_script(made.details), _media_type(path)
        return None

    def _chart(self, path: str) -> tuple[bytes, str] | None:
        with self._lock:
            charts = {one.file: one for made in self._board.made.values() for one in made.charts}
        chart = charts.get(path)
        if chart is None:
            return None
        with self._drawing:  # Matplotlib's settings are those of the whole process
            if path not in self._charts:
                made = drawn(chart)
                if isinstance(made, str):
                    return None
                if len(self._charts) >= _MOST_CHARTS:
                    self._charts.clear()
                self._charts[path] = made
            return self._charts[path], _media_type(path)

    def _evidence(self, path: str) -> tuple[bytes, str] | None:
        asked, _, name = path.partition("/")
        with self._lock:
            known = [found for records in self._board.records.by_release.values()
                     for found in records[:1] if found.current]  # fmt: skip
        for found in known:
            if evidence_id(found.folder) != asked:
                continue
            if name not in shown_files(found.folder):
                return None
            file = (found.folder / name).resolve()
            if not file.is_relative_to(found.folder.resolve()):  # a link that leads elsewhere
                return None
            return file.read_bytes(), _media_type(name)
        return None

    def _records(self) -> dict[Path, tuple[int, int]]:
        """Records in dist folders, stamped: also those that another host's run puts there."""
        found: dict[Path, tuple[int, int]] = {}
        for dist in self._board.origin.dists:
            for path in dist.glob(f"*/{RECORD}"):
                try:
                    about = path.stat()
                except OSError:
                    continue
                found[path] = (about.st_mtime_ns, about.st_ino)
        return found

    def _new_records(self) -> set[str]:
        """Releases whose record is another one than at the last look, or is gone."""
        now, before = self._records(), self._stamps
        self._stamps = now
        changed = {path for path in {*now, *before} if now.get(path) != before.get(path)}
        return {path.parent.name for path in changed if not path.parent.name.startswith(".")}


def _run_message(happened: Happened) -> Message:
    events: list[Any] = [one.model_dump(mode="json") for one in happened.events]
    return Message("run", json.dumps({"run": happened.run, "events": events}))


def _media_type(name: str) -> str:
    """What a browser is told; everything that it need not draw is text."""
    types = {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
        ".json": "application/json",
    }
    return types.get(Path(name).suffix, "text/plain; charset=utf-8")
