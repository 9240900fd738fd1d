"""A shell block as the statements that a reader types one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relforge.card.execute.docker_words import DockerCall, parse
from relforge.card.lint.shell import Command, commands, parsed, unquoted

if TYPE_CHECKING:
    from tree_sitter import Node

_BEFORE_PROGRAM = frozenset(("sudo", "time", "nohup", "env", "exec", "command"))
_ALONE = re.compile(r"^\$(?:\w+|\{\w+\})$")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?[-=]([^}]*))?\})")


@dataclass(frozen=True)
class Statement:
    """One top-level statement: a command, a pipeline, a loop. ``line`` counts in the card."""

    text: str
    line: int
    commands: tuple[Command, ...]
    writes: tuple[str, ...] = ()
    """Files that its redirections write, as words without quotes."""

    @property
    def assignments(self) -> tuple[tuple[str, str], ...]:
        """Names and raw values, when it does nothing else than to set variables."""
        found: list[tuple[str, str]] = []
        for command in self.commands:
            if command.program in ("export", "readonly", "declare"):
                words = [word.text for word in command.words[1:]]
                found += [
                    (word.partition("=")[0], word.partition("=")[2])
                    for word in words
                    if "=" in word
                ]
            elif not command.program:
                found += command.assigned
        return tuple(found)

    @property
    def only_assigns(self) -> bool:
        """No program runs."""
        plain = ("", "export", "readonly", "declare", "unset", "cd", "set", ":", "true")
        return all(command.program in plain for command in self.commands)


@dataclass(frozen=True)
class Script:
    """A block: its statements and, where it is a transcript with prompts, what is printed."""

    text: str
    statements: tuple[Statement, ...]
    transcript: str | None = None


def script(text: str, first_line: int) -> Script:
    """The statements of a block. What does not parse is one statement as a whole."""
    printed: str | None = None
    if any(re.match(r"^\s*\$ \S", line) for line in text.split("\n")):
        text, printed = _without_output(text)
    root = parsed(text)
    data = text.encode()
    if root.has_error:
        whole = Statement(text.strip("\n"), first_line, commands(text, first_line))
        return Script(text, (whole,) if text.strip() else (), printed)
    nodes = [node for node in root.children if node.is_named and node.type != "comment"]
    found = []
    for number, node in enumerate(nodes):
        end = nodes[number + 1].start_byte if number + 1 < len(nodes) else len(data)
        after = data[node.end_byte : end].decode()
        background = after.lstrip().startswith("&")
        piece = data[node.start_byte : node.end_byte].decode() + (" &" if background else "")
        line = first_line + node.start_point[0]
        found.append(Statement(piece, line, commands(piece, line), tuple(_written(node))))
    return Script(text, tuple(found), printed)


def _written(node: Node) -> Iterator[str]:
    if node.type == "file_redirect":
        operator = next((c.type for c in node.children if not c.is_named), "")
        target = node.named_children[-1] if node.named_children else None
        if ">" in operator and target is not None and target.text is not None:
            word = unquoted(target.text.decode(errors="replace"))
            if not word.isdigit():
                yield word
    for child in node.named_children:
        yield from _written(child)


def _without_output(text: str) -> tuple[str, str | None]:
    """Splits a transcript; lines keep their numbers."""
    kept: list[str] = []
    printed: list[str] = []
    going_on = False
    for line in text.split("\n"):
        prompt = re.match(r"^\s*\$ ", line)
        if prompt or going_on:
            kept.append(line[prompt.end() :] if prompt else line)
            going_on = line.endswith("\\")
        else:
            kept.append("")
            printed.append(line)
    shown = "\n".join(printed).strip("\n")
    return "\n".join(kept), shown or None


def program(command: Command) -> tuple[str, tuple[str, ...]]:
    """The program and all its words, without ``sudo``, ``time`` and their kind before it."""
    words = list(command.argv)
    while words and words[0] in _BEFORE_PROGRAM:
        words.pop(0)
        while words and (words[0].startswith("-") or re.match(r"^\w+=", words[0])):
            words.pop(0)
    return (words[0].rpartition("/")[2] if words else ""), tuple(words)


def docker_call(command: Command, variables: dict[str, str]) -> DockerCall | None:
    """What a command asks docker for, variables filled in as far as they are known."""
    name, words = program(command)
    if name != "docker":
        return None
    filled: list[str] = []
    for word in words[1:]:
        value = expanded(word, variables)
        # A variable alone may hold several options, or none.
        filled += value.split() if _ALONE.match(word) else [value]
    return parse(filled)


def expanded(word: str, variables: dict[str, str]) -> str:
    """A word with the values of the variables that are known, and defaults of the others."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in variables:
            return variables[name]
        return match[3] if match[3] is not None else match[0]

    for _ in range(4):
        filled = _VARIABLE.sub(value, word)
        if filled == word:
            break
        word = filled
    return word


def used_variables(text: str) -> frozenset[str]:
    """Names of the variables that a text refers to, but for those with a default."""
    found = {m[1] or m[2] for m in _VARIABLE.finditer(text) if m[3] is None}
    return frozenset(found)
