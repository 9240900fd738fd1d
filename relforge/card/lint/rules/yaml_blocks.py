"""YAML that the reader copies into a file."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.pasted import yaml_runs
from relforge.card.lint.yamltext import LOADER

_LANGUAGES = frozenset({"yaml", "yml"})
_LEFT_OUT = re.compile(r"(?m)^\s*(?:\.\.\.|\u2026)\s*$")
# What a template engine puts in; as a word it parses as its value would.
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")


def _texts(document: Document) -> Iterator[tuple[int, str]]:
    """Each piece of YAML with the line of its first line."""
    for block in document.blocks:
        if block.language in _LANGUAGES:
            yield block.first_line, block.text
        elif block.is_shell:
            for number, text in yaml_runs(block):
                yield block.first_line + number, text


def _prepared(text: str) -> str:
    return _TEMPLATE.sub("template", _LEFT_OUT.sub("", text))


def _syntax(document: Document) -> Iterator[Hit]:
    for first_line, text in _texts(document):
        try:
            for _ in yaml.parse(_prepared(text), Loader=LOADER):
                pass
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = error.problem or error.context or "cannot be read"
            yield Hit(first_line + (mark.line if mark else 0), f"this is no YAML: {what}")
        except yaml.YAMLError as error:
            yield Hit(first_line, f"this is no YAML: {str(error).splitlines()[0]}")


def _duplicate(document: Document) -> Iterator[Hit]:
    front = document.front_matter
    head = [(front.first_line, front.text)] if front is not None else []
    for first_line, text in (*head, *_texts(document)):
        try:
            roots = list(yaml.compose_all(_prepared(text), Loader=LOADER))
        except yaml.YAMLError:
            continue
        for root in roots:
            yield from _repeated(root, first_line)


def _repeated(node: yaml.Node | None, first_line: int) -> Iterator[Hit]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                line = first_line + key.start_mark.line
                if key.value in seen:
                    yield Hit(
                        line, f"the key `{key.value}` stands in line {seen[key.value]} already"
                    )
                seen.setdefault(key.value, line)
            yield from _repeated(value, first_line)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _repeated(child, first_line)


RULES = (
    Rule(
        id="yaml-syntax",
        severity="error",
        title="YAML that does not parse",
        why="The program that is given this file stops before it does anything.",
        remedy="correct it; list items need `- `, and nesting needs its blanks",
        check=_syntax,
    ),
    Rule(
        id="yaml-repeated-key",
        severity="warning",
        title="A key that stands twice in one mapping",
        why="The program keeps one of the values and says nothing of the other.",
        remedy="keep the line that is meant",
        check=_duplicate,
    ),
)
