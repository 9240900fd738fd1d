"""Shell blocks, taken apart by tree-sitter's grammar of bash."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_PROGRAMS = re.compile(
    r"^\s*(?:\$ |# )?(?:sudo |time |nohup |[A-Za-z_]\w*=\S* )*"
    r"(?:docker|podman|nerdctl|git|pip3?|python3?|curl|wget|cd|export|bash|sh|source|hf|"
    r"huggingface-cli|modelscope|vllm|flagscale|mkdir|apt(?:-get)?|conda|make|cmake|tar|ssh|ray|"
    r"uv|npm|echo|cat)(?:\s|$)",
    re.M,
)


@dataclass(frozen=True)
class Word:
    """One word of a command.

    ``raw`` is as written; ``text`` has its quotes and line continuations taken away, while
    variables and substitutions stay as written.
    """

    raw: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A simple command: ``NAME=value program word ...``; ``program`` may be missing.

    ``block_line`` is the first line of its block, so that commands of one block can be told.
    """

    program: str
    words: tuple[Word, ...]
    """The program itself included, as the first."""
    assigned: tuple[tuple[str, str], ...]
    """Assignments before the program or, without one, of the shell itself; ``export`` and its like
    are programs."""
    line: int
    block_line: int
    raw: str

    @property
    def argv(self) -> tuple[str, ...]:
        """The words' text."""
        return tuple(word.text for word in self.words)


def looks_like_commands(text: str) -> bool:
    """Whether the first lines of a block without a language are commands."""
    lines = [line for line in text.split("\n") if line.strip()][:8]
    return any(_PROGRAMS.match(line) for line in lines)


def commands(text: str, first_line: int) -> tuple[Command, ...]:
    """The simple commands of a script, those within loops and substitutions included.

    What does not parse is left out; `bash -n` says what is wrong with it. A prompt (``$ ``) at the
    begin of a line is not part of the command.
    """
    text = re.sub(r"(?m)^(\s*)\$ ", r"\1  ", text)
    data = text.encode()
    found: list[Command] = []

    def visit(node: Node) -> None:
        alone = node.type == "variable_assignment" and _stands_alone(node)
        if alone or node.type in ("command", "declaration_command", "unset_command"):
            found.append(_command(node, data, first_line))
        for child in node.named_children:
            visit(child)

    visit(parsed(text))
    return tuple(found)


def parsed(text: str) -> Node:
    """The root of the syntax tree; its offsets are bytes of the text in UTF-8."""
    return _parser().parse(text.encode()).root_node


def _stands_alone(node: Node) -> bool:
    parent = node.parent
    return parent is None or parent.type not in ("command", "declaration_command")


@lru_cache(maxsize=1)
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _command(node: Node, data: bytes, first_line: int) -> Command:
    def raw(part: Node) -> str:
        return data[part.start_byte : part.end_byte].decode(errors="replace")

    assigned: list[tuple[str, str]] = []
    words: list[Word] = []
    parts = [node] if node.type == "variable_assignment" else node.children
    for part in parts:
        if part.type == "variable_assignment" and node.type != "declaration_command":
            name, _, value = raw(part).partition("=")
            assigned.append((name, unquoted(value)))
        elif part.type not in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
            line = first_line + part.start_point[0]
            words.append(Word(raw(part), unquoted(raw(part)), line))
    program = words[0].text.rpartition("/")[2] if words else ""
    return Command(
        program=program,
        words=tuple(words),
        assigned=tuple(assigned),
        line=first_line + node.start_point[0],
        block_line=first_line,
        raw=raw(node),
    )


def unquoted(word: str) -> str:
    """A word without its quotes; variables stay as written."""
    found: list[str] = []
    quote = ""
    index = 0
    while index < len(word):
        char = word[index]
        following = word[index + 1 : index + 2]
        if quote == "'":
            if char == "'":
                quote = ""
            else:
                found.append(char)
        elif char == "\\" and following:
            if following != "\n":
                keep = quote == '"' and following not in '$`"\\'
                found.append(char + following if keep else following)
            index += 1
        elif char in "'\"" and char == quote:
            quote = ""
        elif char in "'\"" and not quote:
            quote = char
        else:
            found.append(char)
        index += 1
    return "".join(found)
