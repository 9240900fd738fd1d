"""What a card tells its test, in HTML comments that no reader sees.

::

    <!-- relforge:step NAME [KEY[=VALUE]]... -->    before a shell block
    <!-- relforge:expect [contains] -->             before the block with the expected output

A value with spaces stands in double quotes.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from relforge.card.lint.document import Document
from relforge.errors import ExitCode, RelforgeError

_COMMENT = re.compile(r"<!--\s*relforge:(step|expect)\b(.*?)-->")
_NAME = re.compile(r"^[a-z][a-z0-9-]*$")
_KEYS = frozenset(("ready", "background", "needs", "in", "terminal", "profile"))
_SWITCHES = frozenset(("background",))
NEEDS = ("hardware", "secret", "network", "reader")
"""``reader``: something that only the reader can fill in."""


@dataclass(frozen=True)
class StepMarker:
    """What the comment before a shell block says."""

    line: int
    name: str
    ready: str | None = None
    """A URL; the step is done when it answers 200."""
    background: bool = False
    needs: tuple[str, ...] = ()
    place: str | None = None
    """``card`` or ``project``: the folder where the reader stands."""
    new_terminal: bool = False
    profile: str | None = None


@dataclass(frozen=True)
class ExpectMarker:
    """The next block is what the command before prints."""

    line: int
    contains: bool


def markers(document: Document) -> tuple[StepMarker | ExpectMarker, ...]:
    """Those of a card, in order. Raises RelforgeError (USAGE) for one that cannot be understood."""
    found: list[StepMarker | ExpectMarker] = []
    for part in document.html:
        for comment in _COMMENT.finditer(part.text):
            where = f"{document.name}:{part.line}"
            words = _words(comment[2], where)
            if comment[1] == "expect":
                if set(words) - {"contains"}:
                    raise _wrong(where, f"{words[0]!r} is nothing that relforge:expect knows")
                found.append(ExpectMarker(part.line, "contains" in words))
            else:
                found.append(_step(words, part.line, where))
    return tuple(found)


def _step(words: list[str], line: int, where: str) -> StepMarker:
    if not words or not _NAME.match(words[0]):
        raise _wrong(where, "a step has a name of small letters: <!-- relforge:step start -->")
    values: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in _KEYS:
            raise _wrong(where, f"{key!r} is no attribute; there are {', '.join(sorted(_KEYS))}")
        if bool(value) is (key in _SWITCHES) or (key in _SWITCHES and equals):
            wanted = "no value" if key in _SWITCHES else "a value"
            raise _wrong(where, f"{key!r} takes {wanted}")
        values[key] = value
    needs = tuple(part for part in values.get("needs", "").split(",") if part)
    for need in needs:
        if need not in NEEDS:
            raise _wrong(where, f"needs={need}: there are {', '.join(NEEDS)}")
    if values.get("in", "card") not in ("card", "project"):
        raise _wrong(where, f"in={values['in']}: it is card or project")
    if values.get("terminal", "new") != "new":
        raise _wrong(where, f"terminal={values['terminal']}: it can only be new")
    return StepMarker(
        line=line,
        name=words[0],
        ready=values.get("ready"),
        background="background" in values,
        needs=needs,
        place=values.get("in"),
        new_terminal="terminal" in values,
        profile=values.get("profile"),
    )


def _words(text: str, where: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise _wrong(where, str(error)) from error


def _wrong(where: str, why: str) -> RelforgeError:
    return RelforgeError(
        "a marker of the card cannot be understood",
        code=ExitCode.USAGE,
        where=where,
        why=why,
        hint="docs/card-test.md has the grammar",
    )
