"""Finds the known causes in a log, and puts the root of them first."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from relforge.engine.container_spec import ContainerState
from relforge.serving.diagnosis.lines import Line, chunks
from relforge.serving.diagnosis.model import KnownCause
from relforge.serving.diagnosis.table import CAUSES
from relforge.serving.diagnosis.words import last_words, redacted, shown
from relforge.serving.report import Cause, Certainty

_KINDS = ("root", "symptom", "request")
_AFTER_THE_LOG = 1 << 62
_END_BYTES = 4 << 20
# In a traceback the line that raises stands before what it says, which is the better evidence.
_SOURCE_CODE = re.compile(r"(?:^|\]|\))\s{2,40}raise\s")


@dataclass(frozen=True)
class _Match:
    row: int
    cause: Cause
    by_state: bool
    number: int

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """What the state proves, then what is certain, then what is likely; among these roots
        before what they bring about, and in the order of the log.

        An exit status says how a server ended, not why: it comes after the log's own words.
        """
        kind = _KINDS.index(CAUSES[self.row].kind)
        proven = self.by_state and kind == 0
        likely = self.cause.certainty == "likely"
        after = _AFTER_THE_LOG if self.by_state and not proven else self.number
        return 0 if proven else 2 if likely else 1, kind, after, self.row


class Reading:
    """What a log says: every known cause in it, and its end for when there is none."""

    def __init__(self, state: ContainerState | None = None) -> None:
        self.state = state
        self._found: dict[str, _Match] = {}
        self._end = b""

    def read(self, log: BinaryIO) -> None:
        """Reads *log* to its end; memory does not grow with it."""
        for chunk in chunks(log):
            self._end = (self._end + chunk.data)[-_END_BYTES:]
            wanted = {word for known in CAUSES if self._open(known) for word in known.words}
            for line in chunk.lines_with([word.encode() for word in wanted]):
                self._look_at(line)

    @property
    def last_words(self) -> str:
        """Its last error, else its last lines (of the last 4 MiB)."""
        return last_words(self._end.decode("utf-8", "replace"))

    def told(self, said: Iterable[str]) -> None:
        """What the engine, or a request's answer, said: without a place in the log."""
        for text in said:
            for part in text.splitlines():
                self._look_at(Line(0, part), told=True)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Each cause once, the root first; of one line only the most specific row counts.

        What a server that still runs only warned of did not end it, and is left out.
        """
        state = self.state
        survived = state is not None and state.running
        matches = {
            name: match
            for name, match in self._found.items()
            if match.cause.certainty == "certain" or not survived
        }
        if state is not None:
            for row, known in enumerate(CAUSES):
                # How it ended is the weaker evidence of a cause that the log names itself.
                if known.state(state) and (known.kind == "root" or known.id not in matches):
                    cause = _cause(known, f"container state: {state.shown()}", 0, {}, "certain")
                    matches[known.id] = _Match(row, cause, True, 0)
        return tuple(match.cause for match in sorted(matches.values(), key=lambda m: m.rank))

    def _open(self, known: KnownCause) -> bool:
        """Whether there can be better evidence of it than was found."""
        match = self._found.get(known.id)
        return match is None or match.cause.certainty == "likely"

    def _look_at(self, line: Line, *, told: bool = False) -> None:
        level = line.level
        if level == "quiet" or _SOURCE_CODE.search(line.text):
            return
        low = line.text.lower()
        for row in dict.fromkeys([row for word, row in _rows_by_word() if word in low]):
            known = CAUSES[row]
            match = known.match(line.text, low)
            if match is None:
                continue
            certainty: Certainty = "likely" if level == "warning" else "certain"
            before = self._found.get(known.id)
            if before is None or (before.cause.certainty, certainty) == ("likely", "certain"):
                facts = {name: redacted(fact) for name, fact in match.groupdict().items() if fact}
                evidence = shown(line.text, match.start())
                cause = _cause(known, evidence, line.number, facts, certainty)
                order = _AFTER_THE_LOG if told else line.number
                self._found[known.id] = _Match(row, cause, False, order)
            return


def diagnose(log_text: str, state: ContainerState | None = None, answer: str = "") -> Cause | None:
    """The root of the known causes that fit, or None.

    ``log_text`` is the server's log, ``state`` the container's, ``answer`` what a request was
    told. A cause that the state proves comes first, then those of the log in the order of time,
    then those of the engine's and the answer's words; symptoms count when nothing else is found.
    """
    found = diagnose_all(log_text, state, answer)
    return found[0] if found else None


def diagnose_all(
    log_text: str, state: ContainerState | None = None, answer: str = ""
) -> tuple[Cause, ...]:
    """Every known cause that fits, the root first; see ``diagnose``."""
    reading = Reading(state)
    reading.read(io.BytesIO(log_text.encode("utf-8", "replace")))
    reading.told(text for text in (state.error if state else "", answer) if text)
    return reading.causes


@cache
def _rows_by_word() -> tuple[tuple[str, int], ...]:
    return tuple((word, row) for row, known in enumerate(CAUSES) for word in known.words)


def _cause(
    known: KnownCause, evidence: str, line: int, facts: dict[str, str], certainty: Certainty
) -> Cause:
    return Cause(
        id=known.id,
        explanation=known.explanation,
        remedy=known.remedy,
        field=known.field,
        evidence=evidence,
        line=line,
        certainty=certainty,
        facts=facts,
    )


__all__: Sequence[str] = ("Reading", "diagnose", "diagnose_all")
