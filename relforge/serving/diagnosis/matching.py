"""Finds the known causes in a log, and puts the root of them first."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from relforge.engine.container_spec import ContainerState
from relforge.serving.diagnosis.lines import Line, is_trouble, pieces, texts
from relforge.serving.diagnosis.model import Cause, Certainty, KnownCause
from relforge.serving.diagnosis.table import CAUSES
from relforge.serving.diagnosis.words import LastWords, redacted, shown

_KINDS = ("root", "symptom", "request")
_AFTER_THE_LOG = 1 << 62


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


@dataclass
class Reading:
    """What a log says: every known cause in it, and its last words for when there is none."""

    state: ContainerState | None = None
    words: LastWords = field(default_factory=LastWords)
    _found: dict[str, _Match] = field(default_factory=dict)

    def read(self, log: BinaryIO) -> None:
        """Reads *log* to its end; memory does not grow with it."""
        for number, piece in pieces(log):
            self.words.passed(piece)
            if is_trouble(piece):
                for line in texts(number, piece):
                    self.words.heard(line)
                    self._look_at(line)

    def told(self, said: Iterable[str]) -> None:
        """What the engine, or a request's answer, said: without a place in the log."""
        for text in said:
            for part in text.splitlines():
                self._look_at(Line(0, part), told=True)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Each cause once, the root first; of one line only the most specific row counts."""
        matches = dict(self._found)
        state = self.state
        if state is not None:
            for row, known in enumerate(CAUSES):
                if known.state(state):
                    cause = _cause(known, f"container state: {state.shown()}", 0, {}, "certain")
                    matches[known.id] = _Match(row, cause, True, 0)
        return tuple(match.cause for match in sorted(matches.values(), key=lambda m: m.rank))

    def _look_at(self, line: Line, *, told: bool = False) -> None:
        level = line.level
        if level == "quiet":
            return
        for row, known in enumerate(CAUSES):
            match = _match(known, line.text)
            if match is None:
                continue
            certainty: Certainty = "likely" if level == "warning" else "certain"
            before = self._found.get(known.id)
            if before is None or (before.cause.certainty == "likely" and certainty == "certain"):
                facts = {
                    name: redacted(value) for name, value in match.groupdict().items() if value
                }
                cause = _cause(
                    known, shown(line.text, match.start()), line.number, facts, certainty
                )
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


def _match(known: KnownCause, text: str) -> re.Match[str] | None:
    for pattern in known.patterns:
        match = pattern.search(text)
        if match is not None:
            return None if any(other.search(text) for other in known.unless) else match
    return None


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
