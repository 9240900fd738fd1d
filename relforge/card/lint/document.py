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
    from markdown_it.token import Token

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
    reader = _Reader(body.split("\n"), offset)
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


class _Reader:
    """Sorts the tokens of one document into its parts."""

    def __init__(self, lines: list[str], offset: int) -> None:
        self.source = lines
        self.offset = offset
        self.blocks: list[Block] = []
        self.headings: list[Heading] = []
        self.tables: list[Table] = []
        self.links: list[Link] = []
        self.prose: list[Prose] = []
        self.spans: list[Span] = []
        self.html: list[Prose] = []
        self._header: tuple[str, ...] = ()
        self._rows: list[TableRow] = []
        self._cells: list[str] = []
        self._table_line = 0

    def walk(self, tokens: list[Token]) -> None:
        inside: list[str] = []
        for token in tokens:
            kind = token.type
            line = self.offset + (token.map[0] if token.map else 0) + 1
            if kind in ("fence", "code_block"):
                self._block(token, line)
            elif kind == "html_block":
                for number, text in enumerate(token.content.rstrip("\n").split("\n")):
                    self.html.append(Prose(text, line + number))
            elif kind.endswith("_open"):
                inside.append(kind)
                if kind == "table_open":
                    self._table_line, self._header, self._rows = line, (), []
                elif kind == "tr_open":
                    self._cells, self._row_line = [], line
            elif kind.endswith("_close"):
                inside.pop()
                if kind == "tr_close":
                    if "thead_open" in inside:
                        self._header = tuple(self._cells)
                    else:
                        self._rows.append(TableRow(tuple(self._cells), self._row_line))
                elif kind == "table_close":
                    self.tables.append(Table(self._header, tuple(self._rows), self._table_line))
            elif kind == "inline":
                self._inline(token, line, inside)

    def _block(self, token: Token, line: int) -> None:
        fenced = token.type == "fence"
        info = token.info.strip()
        begin, end = token.map or (0, 0)
        last = self.source[end - 1].strip(" >\t") if 0 < end <= len(self.source) else ""
        closed = not fenced or (end - begin > 1 and last.startswith(token.markup))
        self.blocks.append(
            Block(
                text=token.content,
                language=_language(info),
                info=info,
                line=line,
                first_line=line + 1 if fenced else line,
                fenced=fenced,
                closed=closed,
            )
        )

    def _inline(self, token: Token, line: int, inside: list[str]) -> None:
        shown = self._children(token.children or [], line)
        if "heading_open" in inside:
            # The level is in the tag of the token before; the source has it as well.
            level = _level(self.source, line - self.offset - 1)
            self.headings.append(Heading(level, shown.strip(), line))
        elif "th_open" in inside or "td_open" in inside:
            self._cells.append(shown.strip())
        else:
            for number, text in enumerate(token.content.split("\n")):
                self.prose.append(Prose(text, line + number))

    def _children(self, children: list[Token], line: int) -> str:
        """Notes links and code spans; returns the text that a reader sees."""
        shown: list[str] = []
        opened: list[tuple[str, int, int]] = []
        for child in children:
            if child.type in ("softbreak", "hardbreak"):
                line += 1
                shown.append(" ")
            elif child.type == "link_open":
                opened.append((str(child.attrGet("href") or ""), line, len(shown)))
            elif child.type == "link_close":
                target, at, start = opened.pop()
                self.links.append(Link("".join(shown[start:]), target, at, image=False))
            elif child.type == "image":
                target = str(child.attrGet("src") or "")
                self.links.append(Link(child.content, target, line, image=True))
            elif child.type == "code_inline":
                self.spans.append(Span(child.content, line))
                shown.append(child.content)
            elif child.type in ("text", "html_inline"):
                shown.append(child.content)
        return "".join(shown)


def _language(info: str) -> str:
    """The first word; of a directive of MyST (``{code-block} bash``) the language it names."""
    words = info.split()
    if len(words) > 1 and words[0] in ("{code-block}", "{code}", "{sourcecode}"):
        words = words[1:]
    return words[0].lower() if words else ""


def _level(source: list[str], index: int) -> int:
    text = source[index].lstrip(" >\t")
    marks = len(text) - len(text.lstrip("#"))
    if marks:
        return marks
    under = next((s.strip() for s in source[index + 1 :] if s.strip()[:1] in ("=", "-")), "")
    return 1 if under.startswith("=") else 2
