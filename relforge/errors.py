"""The one error type that reaches a user, and the exit codes of the program."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees; documented in README.md and in ``relforge --help``."""

    DONE = 0
    BUG = 1
    USAGE = 2
    ENVIRONMENT = 3
    SOURCE = 4
    BUILD = 5
    GATE = 6
    PUBLISH = 7
    INTERRUPTED = 130


class RelforgeError(Exception):
    """An expected failure: says what, where, why, and the next step.

    ``where`` is a file, ``file:line:column``, URL or container; ``hint`` is the next command to
    type or the remedy; ``log`` is the path of a log file that holds the details.
    """

    def __init__(
        self,
        what: str,
        *,
        code: ExitCode,
        where: str | None = None,
        why: str | None = None,
        hint: str | None = None,
        log: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.where = where
        self.why = why
        self.hint = hint
        self.log = log

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments need their own way through pickle (executors in other processes).
        return _rebuild, (self.what, self.code, self.where, self.why, self.hint, self.log)

    def __str__(self) -> str:
        return "\n".join(f"{label}{text}" for label, text in self.lines())

    def lines(self) -> list[tuple[str, str]]:
        """The message as (label, text) rows, in the order a reader needs them."""
        rows = [("", self.what)]
        for label, text in (
            ("where: ", self.where),
            ("why: ", self.why),
            ("log: ", self.log),
            ("next: ", self.hint),
        ):
            if text:
                rows.append((label, text))
        return rows


def _rebuild(
    what: str,
    code: ExitCode,
    where: str | None,
    why: str | None,
    hint: str | None,
    log: str | None,
) -> RelforgeError:
    return RelforgeError(what, code=code, where=where, why=why, hint=hint, log=log)


class Cancelled(Exception):
    """Raised inside a stage when its cancel token was set; ends the program with 130."""
