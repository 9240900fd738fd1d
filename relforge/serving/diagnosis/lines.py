"""Logs as lines, whoever wrapped them: read in pieces, so that size costs time and no memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

_CHUNK_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
_OVERLAP_BYTES = 1 << 10

Level = Literal["quiet", "warning", "error"]

# What a line says that is evidence of anything; all other lines are passed over unread.
_TROUBLE = (
    b"error", b"fail", b"exception", b"not found", b"no such", b"cannot", b"can't", b"could not",
    b"couldn't", b"unable", b"denied", b"unsupported", b"not support", b"not allowed",
    b"no longer allowed", b"no space", b"no available", b"not recognize", b"out of memory",
    b"insufficient", b"not enough", b"illegal", b"fault", b"fatal", b"abort", b"timed out",
    b"times out", b"time out", b"mismatch", b"not compatible", b"incompatib", b"already in use",
    b"already allocated", b"too many", b"exceed", b"too old", b"too small", b"larger than",
    b"greater than", b"less than desired", b"must be", b"does not", b"ambiguous", b"not a ",
    b"invalid", b"not properly", b"numpy", b"unrecognized", b"killed", b"not available",
    b"panic", b"segmentation",
)  # fmt: skip

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


def is_trouble(piece: bytes) -> bool:
    """Whether a piece may be evidence of anything."""
    low = piece.lower()
    return any(word in low for word in _TROUBLE)


def pieces(log: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of *log*, raw, each with its number from 1; of a long one pieces that overlap.

    At most 2 MiB are held at a time, so memory does not grow with the log or its lines.
    """
    number, rest = 1, b""
    while chunk := log.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield from _split(number, line)
            number += 1
        while len(rest) > _CHUNK_BYTES:
            yield from _split(number, rest[:_CHUNK_BYTES])
            rest = rest[_CHUNK_BYTES - _OVERLAP_BYTES :]
    if rest:
        yield from _split(number, rest)


def _split(number: int, line: bytes) -> Iterator[tuple[int, bytes]]:
    if len(line) <= _PIECE_BYTES:
        yield number, line
        return
    step = _PIECE_BYTES - _OVERLAP_BYTES
    for start in range(0, len(line), step):
        yield number, line[start : start + _PIECE_BYTES]


def texts(number: int, piece: bytes) -> Iterator[Line]:
    """A piece as text: bytes that are no UTF-8 become signs of their own, a progress bar's states
    become lines with one number, and empty ones are left out."""
    text = piece.decode("utf-8", "replace")
    if text.startswith("{"):
        text = _of_docker(text)
    for part in re.split(r"[\r\n]", text):
        clean = _CONTROL.sub("", _ANSI.sub("", part))
        clean = _WRAPPED.sub("", clean)
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
