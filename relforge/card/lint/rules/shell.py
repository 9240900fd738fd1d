"""Blocks that a reader pastes into a shell: whether the shell can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.bash import unreadable
from relforge.card.lint.document import Block, Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.pasted import commands_only, is_pasted, language_of
from relforge.card.lint.placeholders import without_redirected

_SHELL_BLOCK = "put only what is typed into shell blocks; close the block before the text"
_WHAT = {"tree": "a tree or table drawn with lines", "table": "a table", "yaml": "YAML"}
_WORD_END = re.compile(r"[\w\"'})\]]\\$")
_GOES_ON = re.compile(r"(?<!\\)(?:\\\\)*\\$")
_BLANK_AFTER = re.compile(r"(?<!\\)(?:\\\\)*\\[ \t]+$")
_JOINED = re.compile(r"[\w\"'$/-]")


def _syntax(documents: tuple[Document, ...]) -> Iterator[Hit]:
    asked: list[tuple[Document, Block, str]] = []
    for document in documents:
        for block in document.blocks:
            if block.is_shell and is_pasted(block) and block.language != "zsh":
                asked.append((document, block, without_redirected(commands_only(block))))
    refused = unreadable(text for _, _, text in asked)
    for document, block, text in asked:
        if text in refused:
            why = refused[text]
            yield Hit(
                block.first_line + why.line - 1,
                f"bash cannot read this block: {why.message}",
                document=document,
            )


def _prose(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        if not block.is_shell or not is_pasted(block):
            continue
        lines = block.text.split("\n")
        others = block.others
        for number, kind in sorted(others.items()):
            if others.get(number - 1) == kind:
                continue
            if kind == "prose":
                word = lines[number].split()[0]
                yield Hit(
                    block.first_line + number,
                    f"a sentence within a shell block: pasted, `{word}` runs as a command",
                )
            else:
                what = _WHAT[kind]
                yield Hit(
                    block.first_line + number,
                    f"{what} within a shell block: pasted, every line runs as a command",
                    "give YAML a block of its own, ```yaml, and say which file it is"
                    if kind == "yaml"
                    else "",
                )


def _glued(document: Document) -> Iterator[Hit]:
    for block, number, line, following in _continuations(document):
        if not _WORD_END.search(line) or not _JOINED.match(following):
            continue
        if line[-2] in "\"'" or following.startswith("-"):
            word = re.split(r"\s", line[:-1])[-1]
            option = following.split()[0]
            yield Hit(
                block.first_line + number,
                f"no blank before the backslash: `{word}` and `{option}` of the next line"
                " become one word",
            )


def _broken(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        if not block.is_shell:
            continue
        lines = block.typed.split("\n")
        quoted = block.quoted
        for number, line in enumerate(lines):
            comment = line.lstrip().startswith("#")
            if number not in quoted and not comment and _BLANK_AFTER.search(line):
                yield Hit(
                    block.first_line + number,
                    "blanks after the backslash: the command ends here, and the next line runs"
                    " as one of its own",
                    "remove the blanks at the end of the line",
                )
    for block, number, _, following in _continuations(document):
        if following.strip() and not following.lstrip().startswith("#"):
            continue
        rest = block.typed.split("\n")[number + 1 :]
        after = next((one for one in rest if one.strip() and one.lstrip()[0] != "#"), "")
        if after.lstrip().startswith("-"):
            what = "a comment" if following.strip() else "an empty line"
            yield Hit(
                block.first_line + number,
                f"{what} follows the backslash and ends the command:"
                f" `{after.split()[0]}` below runs as a command of its own",
                "move the comment above the command" if following.strip() else "",
            )
        elif not after:
            yield Hit(
                block.first_line + number,
                "the block ends with a backslash: the shell waits for more",
                "remove the last backslash",
                severity="warning",
            )


def _continuations(document: Document) -> Iterator[tuple[Block, int, str, str]]:
    """Lines that end with a backslash outside of quotes, each with the line that follows it."""
    for block in document.blocks:
        if not block.is_shell or "\\\n" not in block.text:
            continue
        lines = block.typed.rstrip("\n").split("\n")
        quoted = block.quoted
        for number, line in enumerate(lines):
            if number in quoted or line.lstrip().startswith("#"):
                continue
            if _GOES_ON.search(line):
                yield block, number, line, lines[number + 1] if number + 1 < len(lines) else ""


def _language(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        if block.fenced and not block.info and (language := language_of(block)):
            what = {"yaml": "YAML", "console": "a session"}.get(language, "commands")
            yield Hit(
                block.line,
                f"the block holds {what}, and its fence does not say so",
                f"begin the block with ```{language}",
            )


RULES = (
    Rule(
        id="shell-syntax",
        severity="error",
        title="A shell block that bash cannot read",
        why="Nothing after the mistake runs, and what ran before it is left half done.",
        remedy="correct the block until `bash -n` accepts it",
        together=_syntax,
        apart=True,
    ),
    Rule(
        id="shell-prose",
        severity="error",
        title="Text, a folder tree, a table or YAML within a shell block",
        why="The reader pastes the whole block, and the shell runs every line of it.",
        remedy=_SHELL_BLOCK,
        check=_prose,
    ),
    Rule(
        id="shell-glued-continuation",
        severity="error",
        title="A backslash without a blank before it joins two words",
        why="The option of the next line becomes part of this one's value, and is lost.",
        remedy="put a blank before the backslash",
        check=_glued,
    ),
    Rule(
        id="shell-broken-continuation",
        severity="error",
        title="A continued line that does not go on",
        why="The command runs without the options below it, and these run as commands.",
        remedy="remove the empty line, or the backslash",
        check=_broken,
    ),
    Rule(
        id="shell-fence-language",
        severity="note",
        title="A block of commands or YAML without a language",
        why="It shows without colours, and programs that read cards do not know what it is.",
        remedy="name the language",
        check=_language,
    ),
)
