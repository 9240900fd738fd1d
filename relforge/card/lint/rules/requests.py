"""Requests to a server with OpenAI's HTTP interface."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import all_commands

_CHAT = re.compile(r"/v1/chat/completions\b")
_TEXT = re.compile(r"/v1/completions\b")
_DATA = frozenset({"-d", "--data", "--data-raw", "--json", "--data-binary"})
_KEY = re.compile(r"[\"']\s*:")


def _payload(document: Document) -> Iterator[Hit]:
    for command in all_commands(document):
        if command.program != "curl":
            continue
        for option, word in zip(command.words, command.words[1:], strict=False):
            body = word.text
            if option.text not in _DATA or not _KEY.search(body):
                continue
            missing = ""
            if _CHAT.search(command.raw) and "messages" not in body:
                missing = "messages"
            elif _TEXT.search(command.raw) and "prompt" not in body:
                missing = "prompt"
            if missing:
                yield Hit(word.line, f"the request has no {missing!r}: the server answers 400")


RULES = (
    Rule(
        id="steps-payload",
        severity="error",
        title="A request that the server refuses",
        why="A reader takes the server for broken.",
        remedy="chat/completions takes `messages`, completions takes `prompt`",
        check=_payload,
    ),
)
