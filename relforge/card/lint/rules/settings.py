"""Versions, variants and models: what text, tables and commands say of the same thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from relforge.card.engine_words import ENGINES
from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.images import images
from relforge.card.lint.kind import all_commands, is_card
from relforge.card.lint.shell import Command

_OF_A_NODE = re.compile(r"rank|address|addr|host|port|name|node|local|url|ip$", re.I)
_ID = re.compile(r"(?<![\w./:-])([A-Za-z][\w.-]*)/([A-Za-z][\w.-]*\d[\w.-]*)(?![\w/.-])")
_RESULTS = re.compile(
    r"\b(?:results?|tested|measured|verified|validated|evaluat\w+|accuracy)\b|结果|测试|验证", re.I
)
_LIST_HEADER = re.compile(r"model", re.I)
_REQUIREMENT = re.compile(r"^([A-Za-z][\w-]*)(?:\[[^\]]*\])?(>=|~=|>)(\d[\w.]*)$")
_FEWEST_LISTED = 5
_ROLE = re.compile(r"\bnode[-_ ]?\d|prefill|decode|\bhead\b|\bworker\b", re.I)


def _version(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    yield from _image_versions(document)
    yield from _main_branches(document)
    yield from _ranges(document)


def _image_versions(document: Document) -> Iterator[Hit]:
    """``name:tag`` in the text, where the commands run another tag of that name."""
    run = {
        image.repository.rpartition("/")[2]: image.tag
        for image in images(document)
        if image.tag or not image.digest
    }
    about_results = {line.line for line in document.prose if _RESULTS.search(line.text)}
    for span in document.spans:
        if span.line not in about_results:
            continue
        name, colon, tag = span.text.partition(":")
        plain = name.rpartition("/")[2]
        versioned = colon and re.match(r"v?\d", tag)
        # The commands may look up the digest of that very tag.
        if any(span.text in block.text for block in document.blocks):
            continue
        if versioned and plain in run and run[plain] != tag.partition("@")[0]:
            other = run[plain] or "without a tag"
            yield Hit(span.line, f"{span.text} here, and the commands run {plain} {other}")


def _main_branches(document: Document) -> Iterator[Hit]:
    for index, command in enumerate(document.commands):
        url = next((w for w in command.argv if re.search(r"/[\w.-]+(?:\.git)?/?$", w)), "")
        if command.program != "git" or "clone" not in command.argv or not url:
            continue
        name = url.rstrip("/").rpartition("/")[2].removesuffix(".git")
        pinned = next((c for c in document.commands[index + 1 :] if "checkout" in c.argv), None)
        if pinned is None or "main" in pinned.argv or "master" in pinned.argv:
            continue
        said = re.compile(rf"(?<![\w-]){re.escape(name)}\s+(?:main|master)\s+branch", re.I)
        for line in document.prose:
            if said.search(line.text):
                yield Hit(line.line, f"{name}'s main branch, it says, and a commit is checked out")


def _ranges(document: Document) -> Iterator[Hit]:
    for command in document.commands:
        for word in command.words if "install" in command.argv else ():
            match = _REQUIREMENT.match(word.text)
            if match is None:
                continue
            said = re.compile(
                rf"(?<![\w-]){re.escape(match[1])}\s+v?{re.escape(match[3])}(?![\w.]*\d)", re.I
            )
            if any(said.search(p.text) for p in document.prose):
                yield Hit(
                    word.line, f"the text says {match[1]} {match[3]}, this takes any newer one"
                )


def _variants(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    first: dict[tuple[str, ...], dict[str, str]] = {}
    lead_in: dict[tuple[str, ...], str] = {}
    words = document.words
    told: set[str] = set()
    for command in all_commands(document):
        key = _served_model(command)
        if not key:
            continue
        given = _values(command)
        lead_in.setdefault(key, _lead_in(document, command))
        before = first.setdefault(key, {name: value for name, (value, _) in given.items()})
        for name, (value, line) in given.items():
            bare = name.lstrip("-")
            # What a reader is told apart by a sentence before each block needs no further word.
            own = _lead_in(document, command)
            apart = own and lead_in[key] and own != lead_in[key]
            if apart or name in told or _OF_A_NODE.search(bare) or name not in before:
                continue
            if before[name] != value and bare not in words and bare.replace("-", "_") not in words:
                told.add(name)
                yield Hit(
                    line, f"{name} is {value} here and {before[name]} further up, without a word"
                )


def _lead_in(document: Document, command: Command) -> str:
    """The last line of text before the block of a command, where it names a node or a role."""
    before = [line.text for line in document.prose if line.line < command.block_line]
    last = before[-1].strip() if before else ""
    return last if _ROLE.search(last) else ""


def _served_model(command: Command) -> tuple[str, ...]:
    argv = command.argv
    if "serve" not in argv[:-1] or command.program in ENGINES:
        return ()
    index = argv.index("serve")
    return (command.program, argv[index + 1])


def _values(command: Command) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for word, following in pairwise(command.words):
        if word.text.startswith("--") and not following.text.startswith("--"):
            found[word.text] = (following.text, word.line)
    return found


def _unlisted(document: Document) -> Iterator[Hit]:
    listed: set[str] = set()
    for table in document.tables:
        for index, header in enumerate(table.header):
            cells = [cell for cell in table.column(index) if re.match(r"[\w.-]+/[\w.-]+", cell)]
            if _LIST_HEADER.search(header) and len(cells) >= _FEWEST_LISTED:
                listed |= {cell.strip().lower() for cell in cells}
    owners = {name.partition("/")[0] for name in listed}
    for block in document.blocks if listed else ():
        for index, text in enumerate(block.text.split("\n")):
            for match in _ID.finditer(text):
                name = match[0].lower()
                if match[1].lower() in owners and not any(
                    entry == name or entry.startswith(f"{name}/") for entry in listed
                ):
                    yield Hit(
                        block.first_line + index,
                        f"{match[0]} is none of the models that are listed",
                    )


RULES = (
    Rule(
        id="claims-version",
        severity="warning",
        title="Two versions of one thing",
        why="A reader cannot tell with which of them the card's results were made.",
        remedy="name the version that was tested, in text and commands alike",
        check=_version,
    ),
    Rule(
        id="claims-variants",
        severity="note",
        title="Variants of a command differ in a setting that nothing explains",
        why="A reader cannot tell whether the difference is meant.",
        remedy="say in the text why the value differs, or give both the same",
        check=_variants,
    ),
    Rule(
        id="claims-unlisted-model",
        severity="warning",
        title="A model that the card's own list does not have",
        why="Readers run what was never verified, or search for weights that are not there.",
        remedy="add the model to the list, or use one that is in it",
        check=_unlisted,
    ),
)
