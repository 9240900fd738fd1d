"""What a running build says: buildx's ``--progress=rawjson``, made readable and counted.

The stream is BuildKit's SolveStatus as JSON objects, one after the other, each on one line or
spread over several (that differs between buildx versions). Lines outside an object are buildx's
own words: the Dockerfile excerpt and the reason of a failure.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from relforge import redact

_TAIL = 25
_STEP = re.compile(r"^\[(?!internal\]|auth\]|context )[^\]]*\] ")
_FROM = re.compile(r"^\[[^\]]*\] FROM ")
_EXPORT = re.compile(r"^(exporting|rewriting|unpacking|pushing|naming) ")


@dataclass
class Vertex:
    """One node of the build graph. Times are seconds since the epoch."""

    name: str
    started: float | None = None
    completed: float | None = None
    cached: bool = False
    error: str = ""
    announced: bool = False
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))

    @property
    def seconds(self) -> float:
        return (self.completed or 0) - (self.started or 0) if self.started else 0.0

    @property
    def is_step(self) -> bool:
        """A step of the Dockerfile that can be cached (a FROM does no work)."""
        return bool(_STEP.match(self.name)) and not _FROM.match(self.name)


class Progress:
    """Reads the stream line by line; writes a readable log and tells the console."""

    def __init__(self, log: IO[str], line: Callable[[str], None]) -> None:
        self._log = log
        self._line = line
        self._open: list[str] = []
        self._partial: dict[tuple[str, int], str] = {}
        self._statuses: set[tuple[str, str]] = set()
        self.vertexes: dict[str, Vertex] = {}
        self.words: list[str] = []

    def feed(self, line: str) -> None:
        """One line of buildx's output."""
        if not self._open and not line.startswith("{"):
            if line.strip():
                self.words.append(line)
                self._write(line)
            return
        self._open.append(line)
        if line.rstrip() == "}" or (len(self._open) == 1 and line.rstrip().endswith("}")):
            text, self._open = "\n".join(self._open), []
            try:
                self._take(json.loads(text))
            except ValueError:
                self.words.append(text)
                self._write(text)

    def finish(self) -> None:
        """Writes what steps said without a final newline."""
        for (digest, _), text in self._partial.items():
            self._said(digest, text)
        self._partial.clear()
        self._log.flush()

    @property
    def failed(self) -> Vertex | None:
        """The step that failed first; one that was only cancelled because of another is not it."""
        broken = [v for v in self.vertexes.values() if v.error]
        real = [v for v in broken if "context canceled" not in v.error]
        return min(real or broken, key=lambda v: v.completed or 0.0, default=None)

    @property
    def steps_cached(self) -> int:
        return sum(1 for v in self.vertexes.values() if v.is_step and v.cached)

    @property
    def steps_run(self) -> int:
        return sum(1 for v in self.vertexes.values() if v.is_step and not v.cached and v.completed)

    @property
    def export_seconds(self) -> float:
        """Wall time from the first exporter's start to the last one's end."""
        spans = [
            (v.started, v.completed)
            for v in self.vertexes.values()
            if v.name.startswith("exporting") and v.started and v.completed
        ]
        return max(e for _, e in spans) - min(s for s, _ in spans) if spans else 0.0

    def _take(self, status: dict[str, Any]) -> None:
        for entry in status.get("vertexes") or ():
            self._vertex(entry)
        for entry in status.get("statuses") or ():
            self._status(entry)
        for entry in status.get("logs") or ():
            self._logged(entry)

    def _vertex(self, entry: dict[str, Any]) -> None:
        vertex = self.vertexes.setdefault(entry["digest"], Vertex(entry.get("name", "")))
        vertex.started = _seconds(entry.get("started")) or vertex.started
        vertex.completed = _seconds(entry.get("completed")) or vertex.completed
        vertex.cached = vertex.cached or bool(entry.get("cached"))
        vertex.error = entry.get("error") or vertex.error
        if vertex.completed and not vertex.announced and not vertex.error:
            vertex.announced = True
            if vertex.is_step or vertex.name.startswith("exporting"):
                how = "cached" if vertex.cached else f"{vertex.seconds:.1f} s"
                self._say(f"{_short(vertex.name)}: {how}")
            else:
                self._write(f"{vertex.name}: {vertex.seconds:.1f} s")

    def _status(self, entry: dict[str, Any]) -> None:
        key = (entry.get("vertex", ""), entry.get("id", ""))
        if not entry.get("completed") or key in self._statuses or not _EXPORT.match(key[1]):
            return
        self._statuses.add(key)
        took = (_seconds(entry.get("completed")) or 0) - (_seconds(entry.get("started")) or 0)
        self._say(f"{_short(key[1])}: {took:.1f} s")

    def _logged(self, entry: dict[str, Any]) -> None:
        key = (entry.get("vertex", ""), int(entry.get("stream", 1)))
        data = base64.b64decode(entry.get("data", "")).decode("utf-8", "replace")
        *lines, rest = (self._partial.pop(key, "") + data).split("\n")
        for line in lines:
            self._said(key[0], line)
        if rest:
            self._partial[key] = rest

    def _said(self, digest: str, line: str) -> None:
        # A progress bar redraws its line with carriage returns; only its last state is read.
        text = redact.text(line.rstrip("\r").rpartition("\r")[2])
        vertex = self.vertexes.get(digest)
        if vertex is not None:
            vertex.tail.append(text)
        self._say(text)

    def _say(self, text: str) -> None:
        self._write(text)
        self._line(redact.text(text))

    def _write(self, text: str) -> None:
        self._log.write(redact.text(text) + "\n")


def _seconds(stamp: str | None) -> float | None:
    """RFC 3339 with up to nine fractional digits (Python 3.10 reads six)."""
    if not stamp:
        return None
    plain = re.sub(r"(\.\d{1,6})\d*", lambda m: m[1].ljust(7, "0"), stamp.replace("Z", "+00:00"))
    return datetime.fromisoformat(plain).timestamp()


def _short(text: str, limit: int = 110) -> str:
    first = text.split("\n", 1)[0]
    return first if len(first) <= limit else first[: limit - 1] + "…"
