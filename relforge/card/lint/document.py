"""A Markdown document as the rules read it: every part with the lines it stands on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from relforge.card.lint.yamltext import load_yaml

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

    from relforge.card.lint.dockerwords import Docker
    from relforge.card.lint.pasted import Kind
    from relforge.card.lint.serving import Request, Server
    from relforge.card.lint.shell import Command, Expansion, Script
    from relforge.card.lint.steps import Step

_FRONT_MATTER = re.compile(r"\A(?:\ufeff)?---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.S | re.M)
SHELLS = frozenset({"bash", "sh", "shell", "zsh", "console", "shell-session", "terminal"})
"""Languages of fenced blocks that hold commands."""


@dataclass(frozen=True)
class FrontMatter:
    """The YAML head. ``data`` is None when it does not parse, and ``error`` says why."""

    text: str
    first_line: int
    data: Any
    error: str | None


@dataclass(frozen=True)
class Block:
    """A code block. Lines count from 1; ``first_line`` is that of the code's first line."""

    text: str
    language: str
    """The language that the info string names, in lower case; empty without one."""
    info: str
    line: int
    first_line: int
    fenced: bool
    closed: bool

    @cached_property
    def is_shell(self) -> bool:
        """Whether a reader pastes it into a shell: by its language, or by its looks without one.

        What a block without an end holds is not known, so that is none.
        """
        from relforge.card.lint.shell import looks_like_commands

        if not self.closed:
            return False
        return self.language in SHELLS or (not self.language and looks_like_commands(self.text))

    @cached_property
    def script(self) -> Script:
        """A shell block taken apart; empty for others."""
        from relforge.card.lint.shell import Script, read_script

        if not self.is_shell:
            return Script((), (), frozenset())
        return read_script(self.text, self.first_line)

    @property
    def commands(self) -> tuple[Command, ...]:
        """The simple commands of a shell block, in order; none of other blocks."""
        return self.script.commands

    @cached_property
    def typed(self) -> str:
        """What a reader types of a shell block: without prompts and without answers."""
        from relforge.card.lint.shell import typed

        return typed(self.text)

    @property
    def quoted(self) -> frozenset[int]:
        """Lines of ``typed``, from 0, that begin or end within quotes or a heredoc's text."""
        return self.script.quoted

    @cached_property
    def others(self) -> dict[int, Kind]:
        """Lines of a shell block, from 0, that are no commands, and what they are."""
        from relforge.card.lint.pasted import no_commands

        return no_commands(self)

    @property
    def expansions(self) -> tuple[Expansion, ...]:
        """Where a shell block uses variables."""
        return self.script.expansions


@dataclass(frozen=True)
class Heading:
    """``text`` is without markup."""

    level: int
    text: str
    line: int


@dataclass(frozen=True)
class TableRow:
    """Cells without markup."""

    cells: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Table:
    """A GFM table."""

    header: tuple[str, ...]
    rows: tuple[TableRow, ...]
    line: int

    def column(self, index: int) -> tuple[str, ...]:
        """The cells below one header."""
        return tuple(row.cells[index] if index < len(row.cells) else "" for row in self.rows)


@dataclass(frozen=True)
class Link:
    """A link or, with ``image``, a picture. ``text`` is what a reader sees."""

    text: str
    target: str
    line: int
    image: bool


@dataclass(frozen=True)
class Prose:
    """One line of running text (paragraph, list item, quote): markup and code spans kept."""

    text: str
    line: int


@dataclass(frozen=True)
class Span:
    """A code span within prose."""

    text: str
    line: int


@dataclass(frozen=True, eq=False)
class Document:
    """One card. ``base``: the folder that relative links start from; None for text from a pipe."""

    name: str
    text: str
    base: Path | None
    front_matter: FrontMatter | None
    blocks: tuple[Block, ...]
    headings: tuple[Heading, ...]
    tables: tuple[Table, ...]
    links: tuple[Link, ...]
    prose: tuple[Prose, ...]
    spans: tuple[Span, ...]
    html: tuple[Prose, ...] = ()
    """Lines of HTML blocks, comments included."""
    lines: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """The simple commands of all shell blocks, in order."""
        return tuple(command for block in self.blocks for command in block.commands)

    @cached_property
    def variables(self) -> dict[str, str]:
        """What the shell blocks set each variable to, at last; other variables kept within."""
        from relforge.card.lint.variables import assigned

        return assigned(self.commands)

    @cached_property
    def containers(self) -> tuple[Docker, ...]:
        """The calls of container engines, in order."""
        from relforge.card.lint.dockerwords import calls

        return tuple(calls(self.commands, self.variables))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The commands in order, those within containers included."""
        from relforge.card.lint.steps import steps

        return steps(self)

    @cached_property
    def servers(self) -> tuple[Server, ...]:
        """The servers that the card starts or describes."""
        from relforge.card.lint.serving import servers

        return servers(self)

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """What the card asks of servers on this host."""
        from relforge.card.lint.serving import requests

        return requests(self)

    @cached_property
    def words(self) -> str:
        """Prose, headings and table cells, a line each; no code blocks."""
        cells = (" ".join(row.cells) for table in self.tables for row in table.rows)
        heads = (" ".join(table.header) for table in self.tables)
        texts = (*(p.text for p in self.prose), *(h.text for h in self.headings), *heads, *cells)
        return "\n".join(texts)

    def section_of(self, line: int) -> Heading | None:
        """The last heading at or above a line."""
        above = [heading for heading in self.headings if heading.line <= line]
        return above[-1] if above else None


def read(path: Path) -> Document:
    """Parses a file. Raises OSError when it cannot be read.

    Bytes that are no UTF-8 become U+FFFD.
    """
    return parse(path.read_bytes().decode("utf-8", errors="replace"), str(path), path.parent)


def parse(text: str, name: str = "-", base: Path | None = None) -> Document:
    """Parses CommonMark with GFM's tables, strikethrough and bare links, and a YAML head."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    front = _front_matter(text)
    body, offset = text.removeprefix("\ufeff"), 0
    if front is not None:
        match = _FRONT_MATTER.match(text)
        assert match is not None
        offset = match.group().count("\n")
        body = text[match.end() :]
    from relforge.card.lint.reading import Reader

    reader = Reader(body.split("\n"), offset)
    reader.walk(_parser().parse(body))
    return Document(
        name=name,
        text=text,
        base=base,
        front_matter=front,
        blocks=tuple(reader.blocks),
        headings=tuple(reader.headings),
        tables=tuple(reader.tables),
        links=tuple(reader.links),
        prose=tuple(reader.prose),
        spans=tuple(reader.spans),
        html=tuple(reader.html),
        lines=tuple(text.split("\n")),
    )


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"linkify": True}).enable(["table", "strikethrough", "linkify"])


def _front_matter(text: str) -> FrontMatter | None:
    match = _FRONT_MATTER.match(text)
    if match is None:
        return None
    data, error = None, None
    try:
        data = load_yaml(match[1])
    except yaml.YAMLError as problem:
        error = str(problem)
    return FrontMatter(text=match[1], first_line=2, data=data, error=error)
