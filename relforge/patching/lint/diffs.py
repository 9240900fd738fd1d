"""What a patch touches and which lines it adds, with the lines' numbers in the patch file."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field

_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_HEADER = re.compile(rb'diff --git (?:"?a/.*"?) (?:"?b/)(.*?)"?\r?$')
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass
class Touched:
    """One file of a patch; ``line`` is where its diff begins, counted from 1."""

    path: str
    line: int
    added: bool = False
    deleted: bool = False
    binary: bool = False
    submodule: bool = False
    text: AddedText = field(default_factory=lambda: AddedText())


@dataclass
class AddedText:
    """The lines that are added to a file, joined; or a whole file's."""

    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def add(self, number: int, line: bytes) -> None:
        """One more line; its number is that of the file it was read from."""
        self.numbers.append(number)
        self.lines.append(line)

    @property
    def content(self) -> bytes:
        return b"\n".join(self.lines)

    def line_at(self, offset: int) -> int:
        """The number of the line in which a byte of ``content`` lies."""
        starts, at = [], 0
        for line in self.lines:
            starts.append(at)
            at += len(line) + 1
        return self.numbers[bisect.bisect_right(starts, offset) - 1]


def whole_file(path: str, data: bytes) -> Touched:
    """A file that is no patch, with all of its lines."""
    text = AddedText()
    for number, line in enumerate(data.split(b"\n"), 1):
        text.add(number, line)
    return Touched(path, 1, text=text)


def read_patch(data: bytes) -> tuple[Touched, ...]:
    """The files that a patch or mailbox touches. Never raises: what is no diff is passed over."""
    found: list[Touched] = []
    current: Touched | None = None
    old = new = 0
    named = False
    for number, line in enumerate(data.split(b"\n"), 1):
        if current is not None and (old > 0 or new > 0):
            mark = line[:1]
            if mark == b"+":
                current.text.add(number, line[1:])
                new -= 1
            elif mark == b"-":
                old -= 1
            elif mark in (b" ", b"", b"\r"):
                old, new = old - 1, new - 1
            elif mark != b"\\":
                old = new = 0
            continue
        if line.startswith(b"diff --git "):
            match = _HEADER.match(line)
            current = Touched(_path(match[1]) if match else "", number)
            found.append(current)
            named = False
        elif line.startswith(b"+++ ") and not line.startswith(b"+++ /dev/null"):
            if current is None or named:
                current = Touched("", number)
                found.append(current)
            named = True
            name = line[4:].rstrip(b"\r").split(b"\t")[0]
            current.path = current.path or _path(_after_slash(name))
        elif current is not None:
            old, new = _header_line(current, line)
    return tuple(one for one in found if one.path)


def _header_line(current: Touched, line: bytes) -> tuple[int, int]:
    """Takes in one line outside of hunks; how many old and new lines follow."""
    if hunk := _HUNK.match(line):
        return int(hunk[1] or 1), int(hunk[2] or 1)
    if line.startswith(b"new file mode"):
        current.added = True
    elif line.startswith(b"deleted file mode"):
        current.deleted = True
    elif line.startswith((b"GIT binary patch", b"Binary files ")):
        current.binary = True
    if line.startswith((b"new file mode 160000", b"new mode 160000")) or (
        line.startswith(b"index ") and line.rstrip(b"\r").endswith(b" 160000")
    ):
        current.submodule = True
    return 0, 0


def _after_slash(name: bytes) -> bytes:
    return name.strip(b'"').partition(b"/")[2]


def _path(raw: bytes) -> str:
    plain = _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), raw)
    return plain.decode("utf-8", "surrogateescape")
