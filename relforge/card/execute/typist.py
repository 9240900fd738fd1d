"""One step, typed into a terminal: until it has ended, or its server is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from relforge.cancel import CancelToken
from relforge.card.execute.ready import Question, asked
from relforge.card.execute.script import Statement
from relforge.card.execute.terminal import Printed, Terminal

_POLL_S = 0.05
_ASK_EVERY_S = 0.5
_BACKGROUND_S = 3.0
_TAIL_LINES = 15


@dataclass(frozen=True)
class Typed:
    """How a statement went. ``occupies``: it goes on, and is ready."""

    printed: Printed
    status: int | None = None
    occupies: bool = False
    fault: str | None = None


@dataclass
class Typist:
    """Waits, with one deadline for a whole step (monotonic seconds)."""

    cancel: CancelToken
    deadline: float
    limit_s: float

    def statement(
        self,
        terminal: Terminal,
        statement: Statement,
        *,
        enters: bool,
        ready: Question | None,
        background: bool,
    ) -> Typed:
        """Types it and waits for its end or, where it goes on, until its server answers."""
        terminal.type(statement.text, enters=enters)
        started = time.monotonic()
        next_question = started + _POLL_S
        said = "it was not asked yet"
        while True:
            self.cancel.check()
            if terminal.status is not None:
                return self._ended(terminal, statement)
            if terminal.gone:
                status = terminal.exit_status
                return Typed(
                    terminal.printed(), status, fault=f"the shell ended with status {status}"
                )
            now = time.monotonic()
            if ready is not None and now >= next_question:
                good, said = asked(ready)
                # The server may have ended, and another one answered in its place.
                if good and terminal.status is None and not terminal.gone:
                    return Typed(terminal.printed(), occupies=True)
                next_question = time.monotonic() + _ASK_EVERY_S
            if ready is None and background and now - started > _BACKGROUND_S:
                return Typed(terminal.printed(), occupies=True)
            if now > self.deadline:
                asking = f", and {ready.url} is not ready (last answer: {said})" if ready else ""
                fault = (
                    f"line {statement.line} did not end within {self.limit_s:g} s{asking}\n"
                    f"{tail(terminal.printed())}"
                )
                return Typed(terminal.printed(), fault=fault.rstrip())
            time.sleep(_POLL_S)

    def until_ready(self, what: Question, ended: Callable[[], str | None]) -> str | None:
        """Why the server is not ready; None once it is. ``ended``: why it never will be."""
        while True:
            self.cancel.check()
            good, said = asked(what)
            if good:
                return None
            gone = ended()
            if gone is not None:
                return f"the server ended before {what.url} was ready: {gone}"
            if time.monotonic() > self.deadline:
                return f"{what.url} was not ready within {self.limit_s:g} s (last answer: {said})"
            self.cancel.sleep(_ASK_EVERY_S)

    def _ended(self, terminal: Terminal, statement: Statement) -> Typed:
        status, printed = terminal.status, terminal.printed()
        # 141: a program wrote to a reader that had enough, as in `... | head -1`.
        if status in (0, 141):
            return Typed(printed, status)
        fault = f"line {statement.line} ended with status {status}\n{tail(printed)}"
        return Typed(printed, status, fault=fault.rstrip())


def tail(printed: Printed) -> str:
    """The last lines that say why."""
    text = printed.stderr.strip() or printed.stdout.strip()
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
