"""Which line of which template a line of a rendered Dockerfile came from.

Jinja keeps no map from output to templates. So the templates are rendered once more, with a mark at
the beginning of each of their lines, and the marks are taken out again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING

from jinja2.ext import Extension

from relforge.rendering import environment, kept, render_in

if TYPE_CHECKING:
    from relforge.subject import Subject

# From Unicode's private use area: no template has a reason to hold it.
_MARK = "\ue0f1"
_MARKED = re.compile(f"{_MARK}([^{_MARK}]*){_MARK}")
_TAG = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)


class _Marks(Extension):
    """Puts ``<mark>template:line<mark>`` before the text of each line."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        spans = [match.span() for match in _TAG.finditer(source)]
        marked: list[str] = []
        position = 0
        for number, line in enumerate(source.split("\n"), 1):
            text = line.lstrip()
            start = position + len(line) - len(text)
            position += len(line) + 1
            # Inside a tag a mark would be code; before one it would keep whitespace alive that
            # Jinja takes away there.
            if not text or text.startswith(("{%", "{#", "{{-")) or _inside(spans, start):
                marked.append(line)
            else:
                mark = f"{_MARK}{filename or name}:{number}{_MARK}"
                marked.append(line[: -len(text)] + mark + text)
        return "\n".join(marked)


def _inside(spans: Sequence[tuple[int, int]], position: int) -> bool:
    at = bisect_right(spans, (position, -1)) - 1
    return at >= 0 and spans[at][0] < position < spans[at][1]


def origins(subject: Subject, text: str) -> tuple[str | None, ...]:
    """For each line of *text*, a release's rendered Dockerfile, its ``FILE:LINE`` in a template.

    None where that cannot be told, as in what a filter made of several lines.
    """
    marking = environment(subject.project.roots).overlay(extensions=[_Marks])
    marked = render_in(marking, subject)
    rows = tuple(_with_places(marked))
    found = tuple(compress(rows, kept([line for line, _ in rows])))
    if "\n".join(line for line, _ in found) != text:
        return (None,) * (text.count("\n") + 1)
    return tuple(place for _, place in found)


def _with_places(marked: str) -> Iterator[tuple[str, str | None]]:
    place = None
    for line in marked.split("\n"):
        if mark := _MARKED.search(line):
            # Text of `build.blocks` stands in no file of a template.
            place = None if mark[1].startswith("None:") else mark[1]
        yield _MARKED.sub("", line), place
