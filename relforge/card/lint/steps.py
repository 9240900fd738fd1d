"""The commands of a card as steps: on the host, or within a container that was entered."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from relforge.card.lint.dockerwords import Docker, docker, inside
from relforge.card.lint.document import Document
from relforge.card.lint.shell import Command, Word
from relforge.card.lint.variables import expand

_SHELLS = frozenset({"bash", "sh", "zsh"})
_HERE = re.compile(r"^(?:\$PWD|\$\{PWD\}|\$\(pwd\)|`pwd`|\.)/")
_HOME = re.compile(r"^(?:\$HOME|\$\{HOME\})(?=/|$)")


@dataclass(frozen=True)
class Step:
    """One command. ``within``: it runs in a container. ``run``: the call that starts it there."""

    command: Command
    within: bool
    run: Docker | None = None


def steps(document: Document) -> tuple[Step, ...]:
    """All commands in order; those that ``docker run`` and ``exec`` are given follow them."""
    found: list[Step] = []
    entered = False
    for command in document.commands:
        call = docker(command, document.variables)
        found.append(Step(command, entered))
        if call is not None:
            found += [Step(inner, True, call) for inner in inside(call)]
            entered = entered or _enters(call)
        elif command.program == "exit":
            entered = False
    return tuple(found)


def _enters(call: Docker) -> bool:
    """Whether the reader is in the container after this call."""
    if call.verb == "attach":
        return True
    if call.verb not in ("run", "exec") or not call.all("interactive") or call.all("detach"):
        return False
    if not call.arguments:
        return call.verb == "run"
    first = call.arguments[0].text.rpartition("/")[2]
    script = any(re.fullmatch(r"-[a-z]*c", word.text) for word in call.arguments[1:])
    return first in _SHELLS and not script


def option(words: tuple[Word, ...], *names: str) -> tuple[Word, str] | None:
    """The word of the last of these options, and its value; None without one."""
    found = None
    for index, word in enumerate(words):
        name, equals, value = word.text.partition("=")
        if name not in names:
            continue
        if equals:
            found = word, value
        elif index + 1 < len(words):
            found = word, words[index + 1].text
    return found


def path(text: str, values: Mapping[str, str]) -> str | None:
    """A folder as one spelling: absolute, ``~/...`` or relative; None when it is not known."""
    text = _HOME.sub("~", _HERE.sub("", expand(text, values)))
    if not text or "$" in text or "`" in text or "<" in text or "://" in text:
        return None
    normal = posixpath.normpath(text)
    return "/" + normal.lstrip("/") if normal.startswith("/") else normal


def holds(folder: str, inner: str) -> bool:
    """Whether a folder is another one, or holds it."""
    return folder == inner or inner.startswith(folder.rstrip("/") + "/")
