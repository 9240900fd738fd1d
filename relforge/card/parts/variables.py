"""Commands with variables in them: what differs from host to host, and only that, is a variable."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_WORD = re.compile(r"[A-Za-z0-9_]")


def quoted(word: str, variables: Mapping[str, str]) -> str:
    """One word for bash. ``variables`` maps stand-ins in the word to names of variables.

    Without a stand-in nothing in the word is expanded; with one, nothing but that.
    """
    if not any(stand_in in word for stand_in in variables):
        return shlex.quote(word)
    pattern = re.compile("|".join(re.escape(s) for s in sorted(variables, key=len, reverse=True)))
    found, at = ['"'], 0
    for match in pattern.finditer(word):
        found.append(re.sub(r'([\\"$`])', r"\\\1", word[at : match.start()]))
        name, following = variables[match.group()], word[match.end() : match.end() + 1]
        found.append(f"${{{name}}}" if _WORD.match(following) else f"${name}")
        at = match.end()
    found.append(re.sub(r'([\\"$`])', r"\\\1", word[at:]))
    return "".join((*found, '"'))


def wrapped(words: tuple[str, ...], variables: Mapping[str, str]) -> str:
    """A long command over several lines, an option with its value on each."""
    lines: list[str] = []
    attaches = False
    for index, word in enumerate(words):
        text = quoted(word, variables)
        option = word.startswith("-") and " " not in word and "\n" not in word
        if lines and ((attaches and not option) or index == 1):
            lines[-1] += f" {text}"
            attaches = False
        else:
            lines.append(text)
            attaches = option
    return " \\\n  ".join(lines)
