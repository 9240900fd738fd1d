"""What the reader should have replaced, and cannot know with what."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Block, Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.placeholders import ANGLED, LEFT, quoted_at, without_comment
from relforge.card.lint.variables import CREDENTIAL

_ADDRESS = re.compile(r"(?:^|_)(?:IPS?|ADDR(?:ESS)?)$", re.I)
_NO_ADDRESS = re.compile(r"^[A-Za-z]\w*_\w+(?:,[A-Za-z]\w*_\w+)*$")
_ASSIGNED = re.compile(r"^\s*(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=")
_PARTS = ("xxx", "XXX", "ath/", "ATH/", "our", "OUR", "ME", "TODO", "|", "{{")
_SAYS_WHAT = re.compile(r"(?:path|your|my)[ _-]", re.I)
_OWN_NAME = re.compile(r"[A-Z][A-Z0-9_]{2,}")


def _placeholder(document: Document) -> Iterator[Hit]:
    for block, number, whole, quoted in _lines(document):
        line = without_comment(whole)
        seen: set[str] = set()
        for match in ANGLED.finditer(line):
            name = match[1]
            if name in seen:
                continue
            seen.add(name)
            explained = _explained(document, block, name)
            redirected = not quoted and not quoted_at(line, match.start())
            yield Hit(
                block.first_line + number,
                f"`<{name}>` is left to the reader"
                + (", and unquoted it is a redirection" if redirected else ""),
                ""
                if not redirected
                else f"use a variable that a line above sets: {_as_name(name)}",
                severity="note" if explained or _SAYS_WHAT.match(name) else "warning",
            )
        # The pattern is slow, and most lines have none of its words.
        for match in LEFT.finditer(line) if any(one in line for one in _PARTS) else ():
            word = match[0]
            if word in seen:
                continue
            seen.add(word)
            assigned = _ASSIGNED.match(line)
            names = [word, *([assigned[1]] if assigned else [])]
            obvious = word[0] not in "|Y" and ("/" in word or word.startswith("your"))
            # The reader's own; no card can print it.
            obvious = obvious or bool(assigned and CREDENTIAL.search(assigned[1]))
            known = obvious or any(_explained(document, block, name) for name in names)
            # A comment on the very line is an explanation, whatever it says.
            known = known or without_comment(whole) != whole
            yield Hit(
                block.first_line + number,
                f"the placeholder `{word}` is left",
                severity="note" if known else None,
            )


def _placeholders(document: Document) -> Iterator[Hit]:
    yield from _placeholder(document)
    yield from _address(document)


def _address(document: Document) -> Iterator[Hit]:
    for command in document.commands:
        pairs = list(command.assigned)
        if command.program in ("export", "readonly", "declare"):
            pairs += [
                (name, value)
                for name, equals, value in (word.text.partition("=") for word in command.words[1:])
                if equals
            ]
        for name, value in pairs:
            if _ADDRESS.search(name) and _NO_ADDRESS.match(value):
                yield Hit(
                    command.line,
                    f"`{name}` is set to `{value}`, which is no address: no host name has an"
                    " underscore",
                    "show an address, 192.0.2.1 for example, and say whose it is",
                    severity="error",
                )


def _missing_dollar(document: Document) -> Iterator[Hit]:
    names = {name for name in document.variables if _OWN_NAME.fullmatch(name)}
    if not names:
        return
    segment = re.compile(
        rf"(?<![\w$}}.-])/?(?:(?<=/)|(?=\w+/))({'|'.join(sorted(names, key=len, reverse=True))})"
        r"(?=[/:]|$)"
    )
    for command in document.commands:
        for word in command.words[1:]:
            match = segment.search(word.text)
            if match is not None and "/" in word.text and "://" not in word.text:
                yield Hit(
                    word.line,
                    f"`{word.text}` has the name of a variable of this card without its `$`",
                    f"write ${match[1]}",
                )


def _explained(document: Document, block: Block, name: str) -> bool:
    """Whether prose, code spans or comments speak of the placeholder."""
    inner = name.strip("<>|")
    own = re.compile(rf"(?<![\w]){re.escape(inner)}(?![\w])")
    marked = f"<{inner}>"
    if any(own.search(span.text) for span in document.spans):
        return True
    if len(inner) > 2 and ("_" in inner or "-" in inner or inner.isupper() or " " in inner):
        if any(own.search(prose.text) for prose in document.prose):
            return True
    elif any(marked in prose.text for prose in document.prose):
        return True
    comments = "\n".join(
        line[len(without_comment(line)) :] for one in document.blocks for line in _text(one, block)
    )
    return own.search(comments) is not None


def _text(one: Block, block: Block) -> list[str]:
    return one.text.split("\n") if one is block else []


def _as_name(name: str) -> str:
    return "$" + re.sub(r"\W+", "_", name).strip("_").upper()


def _lines(document: Document) -> Iterator[tuple[Block, int, str, bool]]:
    """Lines of commands in shell blocks, and whether each stands within longer quotes."""
    for block in document.blocks:
        if not block.is_shell:
            continue
        others = block.others
        quoted = block.quoted
        for number, line in enumerate(block.typed.split("\n")):
            if number not in others:
                yield block, number, line, number in quoted


RULES = (
    Rule(
        id="shell-placeholder",
        severity="warning",
        title="A placeholder in a command",
        why="The command fails as it is printed, and the card does not say what belongs there.",
        remedy="put in a real value, or a variable that the card sets and explains",
        check=_placeholders,
    ),
    Rule(
        id="shell-missing-dollar",
        severity="error",
        title="A variable's name in a path without its dollar sign",
        why="The shell takes the name for a folder, which does not exist and may be made empty.",
        remedy="write the dollar sign",
        check=_missing_dollar,
    ),
)
