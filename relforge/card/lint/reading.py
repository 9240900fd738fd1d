"""Sorts what the Markdown parser says of a document into the parts that rules read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relforge.card.lint.document import Block, Heading, Link, Prose, Span, Table, TableRow

if TYPE_CHECKING:
    from markdown_it.token import Token


class Reader:
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
