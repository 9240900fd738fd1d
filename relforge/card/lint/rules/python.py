"""Python that a card shows."""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Iterator

from relforge.card.lint.document import Block, Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import all_commands

_PYTHON = frozenset({"python", "py", "python3"})
_SETUP_COMMANDS = frozenset(
    {"bdist_wheel", "bdist", "bdist_egg", "bdist_rpm", "build", "build_clib", "build_ext",
     "build_py", "build_scripts", "check", "clean", "develop", "dist_info", "editable_wheel",
     "egg_info", "install", "install_data", "install_egg_info", "install_headers", "install_lib",
     "install_scripts", "sdist", "saveopts", "setopt", "test", "upload", "register", "rotate",
     "alias", "easy_install", "upload_docs", "bdist_conda", "build_sphinx"}
)  # fmt: skip
_PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses")


def _trees(document: Document) -> Iterator[tuple[Block, ast.Module]]:
    for block in document.blocks:
        if block.language not in _PYTHON:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield block, ast.parse(block.text)
        except (SyntaxError, ValueError, RecursionError):
            # Sessions, fragments and other versions of Python are shown as well.
            continue


def _f_string(document: Document) -> Iterator[Hit]:
    for block, tree in _trees(document):
        specs = {id(n.format_spec) for n in ast.walk(tree) if isinstance(n, ast.FormattedValue)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr) or id(node) in specs:
                continue
            if not any(isinstance(part, ast.FormattedValue) for part in node.values):
                yield Hit(block.first_line + node.lineno - 1, "an f-string with no field in it")


def _indentation(document: Document) -> Iterator[Hit]:
    for block, tree in _trees(document):
        lines = block.text.split("\n")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            parts: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
            first = [p for p in parts if not lines[p.lineno - 1][: p.col_offset].strip()]
            depths = {p.col_offset for p in first}
            if len(depths) > 1:
                at = next(p for p in first if p.col_offset != first[0].col_offset)
                told = "the arguments of one call stand at different depths"
                yield Hit(block.first_line + at.lineno - 1, told)


def _base_url(document: Document) -> Iterator[Hit]:
    for block, tree in _trees(document):
        # Other clients take the whole address.
        if "openai" not in block.text.lower():
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.keyword) or node.arg != "base_url":
                continue
            text = "".join(
                str(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Constant)
            )
            path = next((path for path in _PATHS if text.rstrip("/").endswith(path)), None)
            if path is not None:
                told = f"the client adds {path} to base_url itself"
                yield Hit(block.first_line + node.value.lineno - 1, told)


def _setup_command(document: Document) -> Iterator[Hit]:
    for command in all_commands(document):
        argv = command.argv
        if "setup.py" not in argv:
            continue
        for word in command.words[argv.index("setup.py") + 1 :]:
            if word.text.startswith("-") or word.text in _SETUP_COMMANDS:
                break
            near = difflib.get_close_matches(word.text, _SETUP_COMMANDS, 1, 0.75)
            if near:
                yield Hit(word.line, f"setup.py knows no {word.text}; {near[0]}?")
            break


RULES = (
    Rule(
        id="python-f-string",
        severity="note",
        title="An f-string without a field",
        why="A variable was replaced or forgotten.",
        remedy="remove the f, or put the field in",
        check=_f_string,
    ),
    Rule(
        id="python-indentation",
        severity="note",
        title="Broken indentation",
        why="Readers cannot see what belongs together, and take the rest for careless, too.",
        remedy="indent the arguments alike",
        check=_indentation,
    ),
    Rule(
        id="python-base-url",
        severity="error",
        title="A base address that already holds the path",
        why="The client asks /v1/chat/completions/completions, and gets 404.",
        remedy="end base_url with /v1",
        check=_base_url,
    ),
    Rule(
        id="python-setup-command",
        severity="error",
        title="A command that setup.py does not know",
        why="The build ends with an error.",
        remedy="correct the spelling",
        check=_setup_command,
    ),
)
