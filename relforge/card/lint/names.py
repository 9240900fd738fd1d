"""Names of models and precisions, compared by their parts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relforge.card.lint.document import Document
from relforge.card.lint.memo import once

_QUANTIZED = (
    r"(?:w(?:eight_only_)?|u)?int[2348]|fp[48]|mxfp[48]|nvfp4|nf4|w\d{1,2}a\d{1,2}(?:c\d{1,2})?|"
    r"awq|gptq|gguf|[2-8]-?bit|q[2-8]_[0-9k](?:_[sml])?"
)
_FULL = r"bf16|fp16|fp32|bfloat16|float16|float32|half"
QUANTIZED = re.compile(rf"(?<![a-z0-9])(?:{_QUANTIZED})(?![a-z0-9])", re.I)
"""Precisions below 16 bits, and formats that imply one."""
PRECISION = re.compile(rf"(?<![a-z0-9])(?:{_QUANTIZED}|{_FULL})(?![a-z0-9])", re.I)
"""Any precision."""
NAME = re.compile(r"(?<![\w./@-])[A-Z][A-Za-z0-9.]*(?:[-_][A-Za-z0-9.]+)+(?<!\.)")
"""A name as releases have: parts with hyphens, the first with a capital letter."""
_GENERIC = re.compile(
    r"^\W*(?:introduction|overview|about|readme|summary|description|getting started|"
    r"简介|介绍|概述)\b",
    re.I,
)


@dataclass(frozen=True)
class OwnName:
    """What a card calls the thing it describes."""

    text: str
    line: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Its parts in lower case."""
        return parts(self.text)

    @property
    def quantized(self) -> str:
        """The precision below 16 bits that it names, as written; else empty.

        A title that is a sentence ("INT4 on the command line") is no name.
        """
        if NAME.fullmatch(self.text) is None:
            return ""
        match = QUANTIZED.search(self.text)
        return match[0] if match else ""


def parts(name: str) -> tuple[str, ...]:
    """The parts of a name between hyphens, underscores, blanks and slashes, in lower case."""
    return tuple(part for part in re.split(r"[-_\s/,()]+", name.lower()) if part)


def bare(name: str) -> str:
    """A name without case, hyphens, underscores and blanks."""
    return re.sub(r"[-_\s]+", "", name.lower())


def is_generic(title: str) -> bool:
    """Whether a heading would fit any document ("Introduction")."""
    return _GENERIC.match(title) is not None


@once
def own_name(document: Document) -> OwnName | None:
    """The name in the title or, where that is a general word, the first one in the text."""
    title = next((heading for heading in document.headings if heading.level == 1), None)
    if title is not None and not is_generic(title.text):
        match = NAME.search(title.text)
        text = match[0] if match else title.text
        return OwnName(text, title.line)
    for line in document.prose[:10]:
        match = NAME.search(line.text)
        if match:
            return OwnName(match[0], line.line)
    return None


def common_model(headers: tuple[str, ...]) -> tuple[str, ...]:
    """The parts that names begin with alike, precisions left out: the model that all describe."""
    split = [[p for p in parts(header) if not PRECISION.fullmatch(p)] for header in headers]
    found: list[str] = []
    for same in zip(*split, strict=False):
        if len(set(same)) > 1:
            break
        found.append(same[0])
    return tuple(found)
