"""The verdicts of a tuning on disk, each before the next is asked for: a killed one goes on.

One JSON object a line. The first line says what was tuned; a journal of anything else is refused.
A line that a kill cut short is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relforge.tuning.asking import Asked, Evaluate, Evaluation, Found
from relforge.tuning.record import FORMAT, evaluation_of, row_of


class OtherJournal(Exception):
    """The file is the journal of another tuning, or none."""


class Journal:
    """Answers what was answered before, and writes down what is answered now.

    ``key`` stands for everything that decides a verdict but the operators that are disabled.
    Raises OtherJournal, and OSError when the file cannot be written.
    """

    def __init__(self, path: Path, key: str, operators: Sequence[str]) -> None:
        self.path = path
        self.operators = tuple(operators)
        self.known: dict[Asked, Found] = {}
        self.replayed = 0
        head = {"format": f"{FORMAT}-journal", "key": key, "operators": list(operators)}
        whole = self._read(head)
        if whole == 0:
            self._append(head)

    def _read(self, head: dict[str, Any]) -> int:
        """The number of whole lines; what stands behind them is cut off."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        *lines, rest = raw.split(b"\n")
        if rest:
            with self.path.open("r+b") as file:
                file.truncate(len(raw) - len(rest))
                os.fsync(file.fileno())
        try:
            rows = [json.loads(line) for line in lines]
            if rows and rows[0] != head:
                raise OtherJournal(f"{self.path} is of another tuning")
            for row in rows[1:]:
                done = evaluation_of(row, self.operators)
                self.known[done.asked] = done.found
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OtherJournal(f"{self.path} is no journal of a tuning: {error}") from error
        return len(rows)

    def _append(self, row: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def answering(self, evaluate: Evaluate) -> Evaluate:
        """*evaluate*, asked only for what is not known."""

        def answered(asked: Asked) -> Found:
            if asked in self.known:
                self.replayed += 1
                return self.known[asked]
            found = evaluate(asked)
            # The purpose is the search's own; it says it again when it goes on.
            self._append(row_of(Evaluation(asked, found, "search"), self.operators))
            self.known[asked] = found
            return found

        return answered


def telling(say: Callable[[str], None], operators: Sequence[str]) -> Callable[[Evaluation], None]:
    """Tells every evaluation in a line."""
    total = len(operators)
    count = 0

    def told(evaluation: Evaluation) -> None:
        nonlocal count
        count += 1
        asked, found = evaluation.asked, evaluation.found
        off = len(asked.disabled)
        say(
            f"{count:>3} {evaluation.purpose:<9} {off:>4} of {total} disabled: {found.outcome}, "
            f"{found.reason} ({found.seconds:.1f} s)"
        )

    return told
