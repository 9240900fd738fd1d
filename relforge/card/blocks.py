"""Free-text blocks: what people write into a card between two comments is kept."""

from __future__ import annotations

import re

from relforge.errors import ExitCode, RelforgeError

NAMES = ("introduction", "running", "limits")
_BEGIN = re.compile(r"^<!-- relforge:free ([a-z]+) -->$")
_END = re.compile(r"^<!-- relforge:end ([a-z]+) -->$")
_FENCE = re.compile(r"^ {0,3}(?:(`{3,})[^`]*|(~{3,}).*)$")


def free_texts(card: str, where: str) -> dict[str, str]:
    """The text of each block that has some, by name; comments in its fenced code are text.

    Raises RelforgeError (GATE) for a block that does not end, stands twice or is not of this card:
    its text would be lost.
    """
    found: dict[str, str] = {}
    name, lines, begun, fence = None, list[str](), 0, ""
    for number, line in enumerate(card.split("\n"), start=1):
        if name is not None and (fence or _FENCE.match(line)):
            fence = _fence_after(line, fence)
            lines.append(line)
        elif (begin := _BEGIN.match(line)) is not None:
            if name is not None:
                raise _refused(where, number, f"the block {name!r} of line {begun} does not end")
            name, lines, begun = begin[1], [], number
            if name not in NAMES:
                raise _refused(where, number, f"{name!r} is none of {', '.join(NAMES)}")
            if name in found:
                raise _refused(where, number, f"the block {name!r} stands twice")
        elif (end := _END.match(line)) is not None:
            if name != end[1]:
                raise _refused(where, number, f"{end[1]!r} ends here and did not begin")
            found[name] = "\n".join(lines)
            name = None
        elif name is not None:
            lines.append(line)
    if name is not None:
        raise _refused(where, begun, f"the block {name!r} does not end")
    return {name: text for name, text in found.items() if text.strip()}


def _fence_after(line: str, fence: str) -> str:
    """The fence of the code that is open after this line; "" for none."""
    match = _FENCE.match(line)
    if not fence:
        return (match[1] or match[2]) if match else ""
    closes = line.strip()
    return "" if closes.startswith(fence) and not closes.strip(fence[0]) else fence


def _refused(where: str, line: int, why: str) -> RelforgeError:
    return RelforgeError(
        "the free-text blocks of the card cannot be kept",
        code=ExitCode.GATE,
        where=f"{where}:{line}",
        why=why,
        hint="mend the comments relforge:free and relforge:end there (within fenced code they are "
        "text), or move the card away",
    )
