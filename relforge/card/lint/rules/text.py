"""Slips of writing that a general rule can see without a dictionary."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule, Severity
from relforge.card.lint.kind import is_card

_CODE = re.compile(r"`[^`]*`")
_BLANKS = re.compile(r"(?<=[^\s|.!?:])  +(?=[^\s|\\#])")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_GLUED = re.compile(
    r"(?:[\w.+-]+@[\w-]+|(?<![\w.@/])[a-z][\w-]*(?:\.[\w-]+)*)\.(?:com|org|net|edu|cn|io|ai)([A-Z][a-z]+)"
)
_COUNTED = (
    "machine|node|device|card|chip|feature|step|command|subcommand|option|file|image|model|method|"
    "example|part|server|container|instance|replica|thread|core|layer|table|column|section|script"
)
_PLURAL = re.compile(
    r"(?<!\bof )\b(two|three|four|five|six|seven|eight|nine|ten)\s+(?:`[^`]+`\s+)?"
    rf"({_COUNTED})(?![a-z0-9_-])"
    r"(?=\s*(?:[:.,;)!?]|$|[^\x00-\x7f]))",
    re.I,
)
_MODAL = re.compile(r"\b(?:can|could|may|might|must|should|would|cannot)\s+(\w+ing)\b", re.I)
_ENDS_IN_ING = frozenset(
    {"bring", "sing", "ring", "ping", "string", "swing", "spring", "sting", "cling", "fling",
     "sling", "wing", "wring", "king", "thing"}
)  # fmt: skip
_DIRECTIVES = (
    "note|tip|warning|caution|important|admonition|image|figure|include|literalinclude|toctree|"
    "code|code-block|tab-set|tab-item|grid|grid-item|grid-item-card|dropdown|card|table|list-table"
)
_COLONS = re.compile(rf"^\s*:{{3,}}\s*\{{(?:{_DIRECTIVES})\}}")
_FENCE = re.compile(rf"^\{{(?:{_DIRECTIVES})\}}$")
_SUBSTITUTION = re.compile(r"(?<![|\w])\|[a-z]\w*_\w+\|(?!\|)")
# Lines of a tree, also where their UTF-8 was read as cp1252.
_BAR, _LAST, _FORK = (f"(?:{c}|{c.encode().decode('cp1252')})" for c in "│└├")
_LAST_CHILD = re.compile(rf"^((?:[\s|]|{_BAR})*){_LAST}")
_CHILD = re.compile(rf"^((?:[\s|]|{_BAR})*)(?:{_FORK}|{_LAST})")
_NUMBERED = re.compile(
    r"\b(single|one|two|dual|double|2|three|triple|3|four|quad|4)-(node|machine|card|gpu|host)s?\b",
    re.I,
)
_NUMBER = {"single": 1, "one": 1, "two": 2, "dual": 2, "double": 2, "three": 3, "triple": 3,
           "four": 4, "quad": 4}  # fmt: skip


def _prose_lines(document: Document) -> Iterator[tuple[int, str]]:
    for line in document.prose:
        yield line.line, _CODE.sub(lambda m: "`" + "x" * (len(m[0]) - 2) + "`", line.text)
    for heading in document.headings:
        yield heading.line, document.lines[heading.line - 1].strip("# \t")


def _double_blank(document: Document) -> Iterator[Hit]:
    card = is_card(document)
    for number, text in _prose_lines(document):
        match = _BLANKS.search(text.strip())
        if match:
            before = text.strip()[: match.start()].split()[-1]
            yield Hit(number, f"two blanks behind {before!r}", severity=None if card else "note")
    if not card:
        return
    for block in document.blocks:
        lines = block.text.split("\n") if block.is_shell else []
        found = [i for i, text in enumerate(lines) if _BLANKS.search(_unquoted(text))]
        # Several lines with blanks are aligned by hand.
        for index in found if len(found) == 1 else ():
            yield Hit(block.first_line + index, "two blanks within a command", severity="note")


def _unquoted(line: str) -> str:
    """A line of shell without comments and without what is in quotes, where blanks are meant."""
    return _QUOTED.sub("''", line.strip()).split("#")[0]


def _glued(document: Document) -> Iterator[Hit]:
    blocks = _code_lines(document)
    for number, text in enumerate(document.lines, 1):
        if number in blocks:
            continue
        for match in _GLUED.finditer(_CODE.sub("", text)):
            yield Hit(number, f"{match[1]!r} is glued to the address before it: {match[0]!r}")


def _code_lines(document: Document) -> set[int]:
    return {
        block.first_line + index
        for block in document.blocks
        for index in range(block.text.count("\n") + 1)
    }


def _empty_header(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    for table in document.tables:
        for index, header in enumerate(table.header):
            if not header and len(table.header) > 1 and any(table.column(index)):
                yield Hit(table.line, f"column {index + 1} of the table has no header")


def _repeated_comment(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        if not block.is_shell:
            continue
        seen: dict[str, int] = {}
        since = 0
        for index, line in enumerate(block.text.split("\n")):
            text = line.strip()
            if not text.startswith("#"):
                since += bool(text)
                continue
            bare = text.strip("#. ").lower()
            # Commands that are commented out stand there for a choice.
            if len(bare.split()) < 3 or re.search(r"[=/:$]|--", bare):
                continue
            if any(_same(bare, other) and seen[other] == since for other in seen):
                yield Hit(block.first_line + index, f"the comment {bare!r} stands here twice")
            seen[bare] = since


def _same(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return longer.startswith(shorter)


def _grammar(document: Document) -> Iterator[Hit]:
    for line in document.prose:
        plural = _PLURAL.search(line.text)
        if plural:
            yield Hit(line.line, f"a singular after a number: {plural[1]} {plural[2]}")
        for modal in _MODAL.finditer(line.text):
            if modal[1].lower() not in _ENDS_IN_ING:
                yield Hit(line.line, f"{modal[0]!r}: the plain verb follows a modal verb")


def _directive(document: Document) -> Iterator[Hit]:
    # Documentation in that dialect is rendered by its own tool; a card by a hub.
    severity: Severity | None = None if is_card(document) else "note"
    for number, text in enumerate(document.lines, 1):
        if _COLONS.match(text):
            told = f"a directive that Markdown shows as text: {text.strip()!r}"
            yield Hit(number, told, severity=severity)
    for block in document.blocks:
        first = block.info.split()[0] if block.info else ""
        if _FENCE.match(first):
            told = f"a directive in place of the block's language: {first}"
            yield Hit(block.line, told, severity=severity)
            for index, text in enumerate(block.text.split("\n")):
                match = _SUBSTITUTION.search(text)
                if match:
                    told = f"{match[0]} was never replaced"
                    yield Hit(block.first_line + index, told, severity=severity)


def _tree(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        last: dict[str, int] = {}
        for index, text in enumerate(block.text.split("\n")):
            child = _CHILD.match(text)
            if child is None:
                last.clear()
                continue
            depth = child[1]
            if depth in last:
                yield Hit(
                    block.first_line + last.pop(depth),
                    "the tree draws this entry as the last of its folder, and another one follows",
                )
            last = {d: at for d, at in last.items() if len(d) <= len(depth)}
            if _LAST_CHILD.match(text):
                last[depth] = index


def _last_line(document: Document) -> Iterator[Hit]:
    if document.text and not document.text.endswith("\n"):
        yield Hit(len(document.lines), "the last line does not end")


def _number_term(document: Document) -> Iterator[Hit]:
    first: dict[tuple[int, str], str] = {}
    seen: set[str] = set()
    for line in document.prose:
        for match in _NUMBERED.finditer(_CODE.sub("", line.text)):
            count = _NUMBER.get(match[1].lower()) or int(match[1])
            key = (count, match[2].lower())
            usual = first.setdefault(key, match[0])
            # The begin of a sentence takes a capital letter.
            same = match[0] == usual or match[0][1:] == usual[1:]
            if not same and match[0] not in seen:
                seen.add(match[0])
                yield Hit(line.line, f"{match[0]!r} here, {usual!r} further up")


RULES = (
    Rule(
        id="text-double-blank",
        severity="warning",
        title="Two blanks within a sentence",
        why="Something was cut out or pasted in and not read again.",
        remedy="leave one blank, and see whether a word is missing",
        check=_double_blank,
    ),
    Rule(
        id="text-glued-words",
        severity="error",
        title="A word glued to an address",
        why="The address is no link, or a link to an address that does not exist.",
        remedy="put a blank between them, and make the address a link: <name@example.org>",
        check=_glued,
    ),
    Rule(
        id="text-empty-header",
        severity="note",
        title="A table column without a header",
        why="The reader, and a screen reader, has to guess what the cells are.",
        remedy="say in the header what the column holds",
        check=_empty_header,
    ),
    Rule(
        id="text-repeated-comment",
        severity="warning",
        title="A comment that stands there twice",
        why="One of them is left over, or the command that it belongs to is missing.",
        remedy="remove one of them",
        check=_repeated_comment,
    ),
    Rule(
        id="text-grammar",
        severity="note",
        title="A slip of grammar",
        why="Readers trust the figures of a careless text less.",
        remedy="correct the sentence",
        check=_grammar,
    ),
    Rule(
        id="text-directive",
        severity="warning",
        title="Markup of another dialect",
        why="Hubs and GitHub render plain Markdown: readers see the markup, or paste it.",
        remedy="write plain Markdown: a heading for a tab, a fence's language, a value for |name|",
        check=_directive,
    ),
    Rule(
        id="text-tree",
        severity="note",
        title="A folder tree that is drawn wrong",
        why="A reader cannot tell which folder a file lies in.",
        remedy="draw every entry but the last of a folder with ├──",
        check=_tree,
    ),
    Rule(
        id="text-last-line",
        severity="note",
        title="A last line that does not end",
        why="What is appended to the file continues its last sentence.",
        remedy="end the file with a line break",
        check=_last_line,
    ),
    Rule(
        id="text-number-term",
        severity="note",
        title="One term in several spellings",
        why="Readers who search for one of them miss the others.",
        remedy="spell it alike everywhere",
        check=_number_term,
    ),
)
