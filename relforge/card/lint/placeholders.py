"""Words that stand for something the reader has to put in."""

from __future__ import annotations

import re

# An angle bracket, a word, the other bracket; `<(command)`, `<<EOF` and `< file > other` are none.
ANGLED = re.compile(
    r"(?<![<$&\\\d])<([A-Za-z\u3400-\u9fff](?:[^<>\n$`'\"=;|&()]{0,38}[^<>\s$`'\"=;|&()])?)>"
    r"(?![>&\w])"
)
# A run of x, a path that is none, "your-something", and what a documentation tool would replace.
LEFT = re.compile(
    r"(?<![\w-])(?:x{3,}|X{3,})(?![\w-])"
    r"|(?<![\w./-])/?(?:path|PATH)/(?:to|TO|[A-Z])[\w.-]*(?:/[\w.-]+)*"
    r"|(?<![\w$-])(?:your|YOUR)[-_][A-Za-z][\w-]*"
    r"|(?<![\w-])(?:CHANGE[-_]?ME|REPLACE[-_]?ME|TODO|FIXME)(?![\w-])"
    r"|(?<=[\w/:=])\|[a-z][\w]*\||\{\{ *[A-Za-z_]\w* *\}\}"
)
_PIPED = re.compile(r"(?<=[\w/:=])\|[a-z][\w]*\|")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def without_redirected(text: str) -> str:
    """A script in which a word stands in the place of each ``<name>`` and ``|name|``."""
    return _PIPED.sub("placeholder", ANGLED.sub("placeholder", text))


def quoted_at(line: str, index: int) -> str:
    """The quote that a place of a line is within, of those that begin on that line, or nothing."""
    quote = ""
    escaped = False
    for char in line[:index]:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
    return quote


def without_comment(line: str) -> str:
    """A line of a script up to its comment."""
    match = _COMMENT.search(line)
    while match is not None and quoted_at(line, match.start()):
        match = _COMMENT.search(line, match.start() + 2)
    return line[: match.start()] if match is not None else line
