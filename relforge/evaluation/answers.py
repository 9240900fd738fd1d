"""Answers kept one by one as they come, so that an evaluation that was killed can go on.

A file of lines. The first names the format and what was evaluated: answers of another image or
other settings are never taken over. Each further line is ``[crc, key, value, finish]``, where key
is the hash of the request. Written with one ``write`` each, so that a killed process leaves whole
lines; brought to the disk once a second. What a machine that went down left half-written is
discarded, with everything behind it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = "relforge.answers/1"
_SYNC_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What the server said to one request: a text, or a log-likelihood with its greediness."""

    value: Any
    finish: str | None = None


class AnswerLog:
    """The answers to one task. ``identity`` says all that decides them beside the request.

    Equal requests are told apart by their number alone: each answer is taken once.
    """

    def __init__(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # A child that outlived its parent may still write.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._kept: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._synced = time.monotonic()
        head = _line({"format": FORMAT, "identity": identity})
        content = path.read_bytes()
        end = self._read(content, head) if content.startswith(head) else 0
        if end < len(content):
            os.ftruncate(self._file, end)
        if end == 0:
            os.write(self._file, head)
        self.earlier = sum(map(len, self._kept.values()))
        """Answers that were there when it was opened."""
        self.taken = 0
        """How many of these were taken."""

    def _read(self, content: bytes, head: bytes) -> int:
        """Takes in the lines; returns where the first bad one begins."""
        end = len(head)
        for line in content[end:].splitlines(keepends=True):
            try:
                crc, key, value, finish = json.loads(line)
            except (ValueError, TypeError):
                return end
            if not line.endswith(b"\n") or crc != _crc(key, value, finish):
                return end
            self._kept[key].append(Answer(value, finish))
            end += len(line)
        return end

    def take(self, key: str) -> Answer | None:
        """The next answer to a request that an earlier run has."""
        if not (kept := self._kept.get(key)):
            return None
        self.taken += 1
        return kept.popleft()

    def add(self, key: str, answer: Answer) -> None:
        """Keeps an answer."""
        crc = _crc(key, answer.value, answer.finish)
        os.write(self._file, _line([crc, key, answer.value, answer.finish]))
        if time.monotonic() - self._synced > _SYNC_S:
            os.fdatasync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Brings it to the disk, and lets others have it."""
        os.fdatasync(self._file)
        os.close(self._file)


def request_key(method: str, words: Sequence[Any]) -> str:
    """The key of a request: everything that is asked, the way of generating included."""
    text = json.dumps([method, list(words)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _crc(key: Any, value: Any, finish: Any) -> int:
    return zlib.crc32(json.dumps([key, value, finish]).encode())


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
