"""Answers for a verb that asks: from options first, else from the terminal.

Without a terminal nothing is asked: what has a default takes it, and what has none is named at the
end, all of it at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from relforge.errors import ExitCode, RelforgeError

ValueT = TypeVar("ValueT")
Reading = Callable[[str], ValueT]


def on_terminal() -> bool:
    """Whether somebody is there who can answer."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


def reading(kind: Any) -> Reading[Any]:
    """Reads text as a field type of the manifests. The reading raises ValueError."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def read(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ValueError(message) from None

    return read


def one_of(*names: str) -> Reading[str]:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"choose one of {', '.join(names)}")
        return text

    return read


@dataclass
class Asker:
    """``given`` has the values of options by name (``weights-path``), None where there is none."""

    given: Mapping[str, str | None]
    terminal: bool
    missing: list[str] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)

    def ask(
        self,
        option: str,
        question: str,
        read: Reading[ValueT],
        *,
        default: str | None = None,
        again: str | None = None,
    ) -> ValueT | None:
        """The answer; None when nobody gives one. An empty ``default`` makes it optional.

        ``again`` is what was wrong with the answer before: then the option no longer counts.
        Raises RelforgeError (USAGE) for a wrong option, typer.Abort.
        """
        self._used.add(option)
        given = self.given.get(option)
        if again is not None:
            if not self.terminal or given is not None:
                raise _wrong(option, given, again)
            typer.echo(f"Error: {again}", err=True)
        if given is not None:
            try:
                return read(given)
            except ValueError as error:
                raise _wrong(option, given, str(error)) from error
        if self.terminal:
            return self._prompt(question, read, default)
        if default is None:
            self.missing.append(option)
            return None
        return read(default) if default else None

    def confirm(self, option: str, question: str) -> bool:
        """Whether the person agrees; without a terminal, whether the option is there."""
        self._used.add(option)
        if self.terminal:
            return typer.confirm(question, default=True, err=True)
        self.missing.append(option)
        return False

    def finish(self) -> None:
        """Raises RelforgeError (USAGE) when answers are missing, or options answer nothing."""
        if self.missing:
            named = ", ".join(f"--{option}" for option in self.missing)
            raise RelforgeError(
                "some answers are missing, and there is no terminal to ask on",
                code=ExitCode.USAGE,
                why=f"missing: {named}",
                hint="give them as options, or run the same command on a terminal",
            )
        unused = [name for name, value in self.given.items() if value and name not in self._used]
        if unused:
            raise RelforgeError(
                f"--{unused[0]} does not belong to the other answers",
                code=ExitCode.USAGE,
                why="nothing was asked that it answers",
                hint="leave it out, or see `relforge init --help` for what it goes with",
            )

    def _prompt(self, question: str, read: Reading[ValueT], default: str | None) -> ValueT | None:
        def value_of(text: str) -> ValueT | None:
            if not text and default == "":
                return None
            try:
                return read(text)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error

        found: ValueT | None = typer.prompt(
            question, default=default, show_default=bool(default), value_proc=value_of, err=True
        )
        return found


def _wrong(option: str, given: str | None, why: str) -> RelforgeError:
    return RelforgeError(
        f"--{option} {given!r} cannot be used" if given is not None else f"--{option} is needed",
        code=ExitCode.USAGE,
        why=why,
        hint=f"correct --{option}" if given is not None else f"give --{option}",
    )
