"""Shell blocks, taken apart by tree-sitter's grammar of bash."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser, Tree

_WRAPPERS = frozenset({"sudo", "time", "nohup", "env", "exec", "command", "stdbuf", "setsid"})
_WITH_VALUE = frozenset({"-u", "-g", "-o", "--user", "--group"})

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

    @cached_property
    def argv(self) -> tuple[str, ...]:
        """The words' text."""
        return tuple(word.text for word in self.words)

    @property
    def started(self) -> tuple[Word, ...]:
        """The words from the program that ``sudo``, ``env`` and their like start."""
        words = self.words
        while words and words[0].text in _WRAPPERS:
            words = words[1:]
            while words and (words[0].text.startswith("-") or _ASSIGNMENT.match(words[0].text)):
                words = words[2 if words[0].text in _WITH_VALUE else 1 :]
        return words


_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Expansion:
    """``$name`` or ``${name<operator>}`` where the shell replaces it, not within single quotes."""

    name: str
    operator: str
    """What follows the name within the braces, ``:-value`` for example; empty without."""
    line: int
    within: str
    """``function`` or ``heredoc``, or empty at the top."""


def looks_like_commands(text: str) -> bool:
    """Whether the first lines of a block without a language are commands."""
    lines = [line for line in text.split("\n") if line.strip()][:8]
    return any(_PROGRAMS.match(line) for line in lines)


@dataclass(frozen=True)
class Script:
    """A shell block taken apart.

    ``quoted`` are the lines, from 0, whose begin or end is within quotes or a heredoc's text.
    """

    commands: tuple[Command, ...]
    expansions: tuple[Expansion, ...]
    quoted: frozenset[int]


def read_script(text: str, first_line: int) -> Script:
    """Its simple commands, those within loops and substitutions included, and its variables.

    What does not parse is left out; `bash -n` says what is wrong with it. Prompts and what was
    answered to them are no commands. Variables within arithmetic are left out.
    """
    text = typed(text)
    data = text.encode()
    commands: list[Command] = []
    expansions: list[Expansion] = []
    quoted: set[int] = set()
    # Not by recursion: a script may be nested more deeply than Python calls may be.
    stack: list[tuple[Node, str]] = [(_tree(text).root_node, "")]
    while stack:
        node, within = stack.pop()
        kind = node.type
        if kind in _COMMANDS or (kind == "variable_assignment" and _stands_alone(node)):
            commands.append(_command(node, data, first_line))
        elif kind in ("simple_expansion", "expansion"):
            match = _EXPANSION.match(data[node.start_byte : node.end_byte].decode(errors="replace"))
            if match is not None:
                line = first_line + node.start_point[0]
                expansions.append(Expansion(match[1] or match[2], match[3] or "", line, within))
        elif kind in _QUOTES:
            first, last = node.start_point[0], node.end_point[0]
            if first != last or kind == "heredoc_body":
                quoted.update(range(first, last + 1))
        within = _SCOPES.get(kind, within)
        stack += [
            (child, within) for child in reversed(node.named_children) if child.type not in _LEAVES
        ]
    return Script(tuple(commands), tuple(expansions), frozenset(quoted))


def commands(text: str, first_line: int) -> tuple[Command, ...]:
    """The simple commands of a script."""
    return read_script(text, first_line).commands


def typed(text: str) -> str:
    """What a reader types, line by line: prompts become blanks, answers become empty lines.

    A text without prompts is typed as a whole, but for the options of a directive of MyST.
    """
    if text.lstrip().startswith(":"):
        text = re.sub(r"\A(?:\s*:[a-z][\w-]*:[^\n]*\n)+", lambda m: "\n" * m[0].count("\n"), text)
    if _PROMPT.search(text) is None:
        return text
    lines: list[str] = []
    going_on = False
    for line in text.split("\n"):
        match = _PROMPT.match(line)
        if match is not None:
            line = " " * match.end() + line[match.end() :]
        elif not going_on:
            line = line if line.lstrip().startswith("#") else ""
        going_on = line.endswith("\\")
        lines.append(line)
    return "\n".join(lines)


_PROMPT = re.compile(r"(?m)^[ \t]*(?:\([\w.-]+\) ?)?(?:[\w.-]+@[\w.-]+[^\n$#]{0,40})?\$ (?=\S)")


def parses(text: str) -> bool:
    """Whether the grammar finds no fault in a script; bash may still find one."""
    return not _tree(text).root_node.has_error


_SCOPES = {"function_definition": "function", "heredoc_body": "heredoc"}
_EXPANSION = re.compile(r"\$(?:([A-Za-z_]\w*|[0-9])|\{([A-Za-z_]\w*|[0-9]+)(.*)\})", re.S)


_COMMANDS = frozenset({"command", "declaration_command", "unset_command"})
_QUOTES = frozenset({"string", "raw_string", "ansi_c_string", "heredoc_body"})
_LEAVES = frozenset(
    {"word", "variable_name", "number", "comment", "special_variable_name", "file_descriptor",
     "string_content", "heredoc_start", "heredoc_end", "heredoc_content", "test_operator", "regex"}
)  # fmt: skip


def parsed(text: str) -> Node:
    """The root of the syntax tree; its offsets are bytes of the text in UTF-8."""
    return _tree(text).root_node


def _stands_alone(node: Node) -> bool:
    parent = node.parent
    return parent is None or parent.type not in ("command", "declaration_command")


@lru_cache(maxsize=1)
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


@lru_cache(maxsize=64)
def _tree(text: str) -> Tree:
    return _parser().parse(text.encode())


def _command(node: Node, data: bytes, first_line: int) -> Command:
    def raw(part: Node) -> str:
        return data[part.start_byte : part.end_byte].decode(errors="replace")

    assigned: list[tuple[str, str]] = []
    words: list[Word] = []
    end = -1
    parts = [node] if node.type == "variable_assignment" else node.children
    for part in parts:
        if part.type == "variable_assignment" and node.type != "declaration_command":
            name, _, value = raw(part).partition("=")
            assigned.append((name, unquoted(value)))
        elif part.type not in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
            line = first_line + part.start_point[0]
            if words and data[end : part.start_byte] == b"\\\n":
                # The shell takes a word on the next line for the rest of this one.
                whole = words[-1].raw + raw(part)
                words[-1] = Word(whole, unquoted(whole), words[-1].line)
            else:
                words.append(Word(raw(part), unquoted(raw(part)), line))
        end = part.end_byte
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
    if "'" not in word and '"' not in word and "\\" not in word:
        return word
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
