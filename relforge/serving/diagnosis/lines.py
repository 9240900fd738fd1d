"""Logs as lines, whoever wrapped them: read in pieces, so that size costs time and no memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

_CHUNK_BYTES = 1 << 20
_AROUND_BYTES = 2 << 10
_LONG_BYTES = 16 << 10
_MOST_PLACES = 64  # of one word in a long line

Level = Literal["quiet", "warning", "error"]

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Kubernetes (CRI): time, stream, F or P; docker compose: container and a bar.
_WRAPPED = re.compile(
    r"^(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)\s(?:std(?:out|err) [FP] )?"
    r"|[\w.-]{1,80}-\d+\s+\| )"
)
_LEVEL = re.compile(
    r"(?<![=\w])(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)(?=[\s:\]|,])"
    r"|^([DIWEF])\d{4} \d\d:|\[([WE])\d{3,4} \d\d:|\b\w{0,40}(Warning): "
)
_LEVEL_WITHIN = 160
_QUIET = ("DEBUG", "INFO", "D", "I")
_WARNING = ("WARNING", "WARN", "W", "Warning")


@dataclass(frozen=True)
class Line:
    """One line of a log without wrapping and colours. ``number`` counts from 1."""

    number: int
    text: str

    @property
    def level(self) -> Level:
        """How its writer meant it; a line without a level is part of an error's own words."""
        found = _LEVEL.search(self.text[:_LEVEL_WITHIN])
        word = next((group for group in found.groups() if group), "") if found else ""
        if word in _QUIET:
            return "quiet"
        return "warning" if word in _WARNING else "error"


@dataclass(frozen=True)
class Chunk:
    """Whole lines of a log, or a piece of a line that is longer than a chunk.

    ``first`` is the number of its first line.
    """

    first: int
    data: bytes

    def lines_with(self, words: Sequence[bytes]) -> Iterator[Line]:
        """Its lines that hold one of *words* (lower case), in order.

        Of a long line the surroundings of every such word, each as a line with its number.
        """
        low = self.data.lower()
        spans = sorted({span for word in words for span in self._spans(low, word)})
        number, counted = self.first, 0
        for start, end in spans:
            number += self.data.count(b"\n", counted, start)
            counted = start
            yield from texts(number, self.data[start:end])

    def _spans(self, low: bytes, word: bytes) -> Iterator[tuple[int, int]]:
        at = low.find(word)
        while at >= 0:
            start = low.rfind(b"\n", 0, at) + 1
            end = low.find(b"\n", at)
            end = len(low) if end < 0 else end
            if end - start > _LONG_BYTES:
                yield from self._places(low, word, at, end)
            else:
                yield start, end
            at = low.find(word, end)

    @staticmethod
    def _places(low: bytes, word: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
        """The surroundings of a word in a long line, on a grid, so that many words give few."""
        for _ in range(_MOST_PLACES):
            cell = at // _AROUND_BYTES * _AROUND_BYTES
            yield max(0, cell - _AROUND_BYTES), min(end, cell + 2 * _AROUND_BYTES)
            at = low.find(word, cell + _AROUND_BYTES, end)
            if at < 0:
                return


def chunks(log: BinaryIO) -> Iterator[Chunk]:
    """*log* in pieces of about 1 MiB that end with a line, except within a longer one.

    Pieces of one long line overlap. At most some MiB are held at a time.
    """
    first, rest = 1, b""
    while read := log.read(_CHUNK_BYTES):
        data = rest + read
        cut = data.rfind(b"\n") + 1
        if cut:
            yield Chunk(first, data[:cut])
            first += data.count(b"\n", 0, cut)
            rest = data[cut:]
        elif len(data) > _CHUNK_BYTES:
            yield Chunk(first, data)
            rest = data[-_AROUND_BYTES:]
        else:
            rest = data
    if rest:
        yield Chunk(first, rest)


def texts(number: int, raw: bytes) -> Iterator[Line]:
    """A raw line as text: bytes that are no UTF-8 become signs of their own, a progress bar's
    states become lines with one number, and empty ones are left out."""
    text = raw.decode("utf-8", "replace")
    if text.startswith("{"):
        text = _of_docker(text)
    for part in re.split(r"[\r\n]", text):
        clean = _WRAPPED.sub("", _CONTROL.sub("", _ANSI.sub("", part)))
        if clean.strip():
            yield Line(number, clean)


def _of_docker(text: str) -> str:
    """What the engine's json-file driver wrapped, else the text as it is."""
    try:
        wrapped = json.loads(text)
    except ValueError:
        return text
    said = wrapped.get("log") if isinstance(wrapped, dict) else None
    return said if isinstance(said, str) else text
