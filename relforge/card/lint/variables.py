"""Variables of shell blocks: what they are set to, and words with them put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from relforge.card.lint.shell import Command, unquoted

DECLARE = frozenset({"export", "readonly", "declare", "typeset", "local"})
CREDENTIAL = re.compile(r"(?:^|_)(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.I)
"""Names of variables that hold what belongs to the reader alone."""
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.S)
_USE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-([^{}]*))?\})")
_MOST_ROUNDS = 5


def assigned(commands: Iterable[Command]) -> dict[str, str]:
    """The last value of each variable, as written, without quotes."""
    found: dict[str, str] = {}
    for command in commands:
        pairs = command.assigned if not command.words else ()
        for name, value in pairs:
            found[name.removesuffix("+")] = value
        if command.program in DECLARE:
            for word in command.words[1:]:
                match = _ASSIGNMENT.match(word.text)
                if match is not None:
                    found[match[1]] = match[2]
    return found


def expand(text: str, values: Mapping[str, str]) -> str:
    """A word with the values of known variables put in; a default stands for an unset variable.

    What stays unknown stays as written, so that a ``$`` left says that the word is not known.
    """
    for _ in range(_MOST_ROUNDS):
        before = text
        text = _USE.sub(lambda match: _value(match, values), text)
        if text == before:
            break
    return text


def _value(match: re.Match[str], values: Mapping[str, str]) -> str:
    name = match[1] or match[2]
    value = values.get(name)
    # NAME=${NAME:-default} refers to what was there before.
    if value is not None and f"${name}" not in value and f"${{{name}" not in value:
        return value
    if match[3] is not None:
        return unquoted(match[3])
    if value is not None:
        own = _USE.fullmatch(value)
        if own is not None and own[3] is not None:
            return unquoted(own[3])
    return match[0]
