"""Lines of shell blocks that are no commands: sentences, folder trees, YAML."""

from __future__ import annotations

import re
from typing import Literal

import yaml

from relforge.card.lint.document import Block, Document
from relforge.card.lint.mojibake import repaired
from relforge.card.lint.shell import looks_like_commands
from relforge.card.lint.yamltext import load_yaml

Kind = Literal["prose", "tree", "table", "yaml"]

_SCRIPT = re.compile(r"[\w-]\.(?:sh|bash)\b")
_TREE = re.compile(r"[├└│┌]")
_TABLE = re.compile(r"^[|+].*[|+]$")
_IDEOGRAPH = re.compile(r"^[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
_REMARK = re.compile(
    r"^(?:note|nb|warning|caution|important|attention|tip|hint|remark|todo)\s*[:\uff1a]\s*\S", re.I
)
_SIGNS = re.compile(r"[|;&<>$`={}\\]|(?:^|\s)-")
_CAPITALISED = re.compile(r"^[A-Z][a-z]+[,:]?$")
_SESSIONS = frozenset({"console", "shell-session", "terminal"})
_LITTLE = frozenset(
    {"a", "an", "the", "to", "of", "in", "on", "at", "for", "and", "or", "with", "can", "you",
     "your", "is", "are", "be", "this", "that", "these", "it", "from", "by", "each", "should",
     "must", "will", "need", "needs", "please", "then", "before", "after", "we", "our"}
)  # fmt: skip
_LEAST_WORDS = 4
_ASSIGNS = re.compile(r"[A-Za-z_]\w*=")
_SAYS = re.compile(r"[\w.-]+\s+(?:version|is|was|are|has|v?\d)\b")
_KEY = re.compile(r"^\s*(?:- +)?[\"']?[A-Za-z_][\w.-]*[\"']?:(?:\s.*)?$")
_LEAST_KEYS = 3
_BETWEEN_KEYS = re.compile(r"^\s*(?:$|#|- |[\w./-]+$)")


def no_commands(block: Block) -> dict[int, Kind]:
    """The lines of a shell block that hold something else, counted from 0 within the block."""
    text = block.typed
    lines = text.split("\n")
    quoted = block.quoted
    found: dict[int, Kind] = dict.fromkeys(_yaml(lines, quoted), "yaml")
    going_on = False
    for number, line in enumerate(lines):
        if not going_on and _may_be_none(line) and number not in quoted and number not in found:
            meant = repaired(line)
            stripped = meant.strip()
            if not stripped.startswith("#"):
                if _TREE.search(meant):
                    found[number] = "tree"
                elif _TABLE.match(stripped):
                    found[number] = "table"
                elif is_prose(stripped):
                    found[number] = "prose"
        going_on = line.endswith("\\")
    for number in [number for number, kind in found.items() if kind == "tree"]:
        if number and number - 1 not in found and lines[number - 1].strip().endswith("/"):
            found[number - 1] = "tree"
    return found


def _may_be_none(line: str) -> bool:
    """Whether a line has to be looked at: most begin with the small letter of a program."""
    first = line.lstrip()[:1]
    return not line.isascii() or first in "|+" or first.isupper() or ":" in line


def commands_only(block: Block) -> str:
    """The text of a shell block with all other lines emptied."""
    others = block.others
    lines = block.typed.split("\n")
    return "\n".join("" if number in others else line for number, line in enumerate(lines))


def is_pasted(block: Block) -> bool:
    """Whether a block is meant for a shell beyond doubt: it says so, or begins with a command."""
    if block.language in _SESSIONS:
        # A session without prompts is what a program wrote.
        return block.is_shell and block.typed != block.text
    if block.language:
        return block.is_shell
    first = next(
        (line for line in block.typed.split("\n") if line.strip() and line.lstrip()[0] != "#"), ""
    )
    return looks_like_commands(first)


def language_of(block: Block) -> str:
    """``bash``, ``console`` or ``yaml`` for a block whose text leaves no doubt; else empty."""
    lines = [line for line in block.text.split("\n") if line.strip()]
    if block.is_shell and is_pasted(block):
        if block.typed != block.text:
            return "console"
        return "bash" if _all_commands(block) else ""
    keys = [line for line in lines if _KEY.match(line)]
    if len(keys) < _LEAST_KEYS or any(_IDEOGRAPH.match(line) for line in lines):
        return ""
    if not all(_KEY.match(line) or _BETWEEN_KEYS.match(line) or line[0] == " " for line in lines):
        return ""
    try:
        data = load_yaml(block.text)
    except yaml.YAMLError:
        return ""
    nested = isinstance(data, dict) and any(isinstance(one, dict | list) for one in data.values())
    return "yaml" if nested else ""


def _all_commands(block: Block) -> bool:
    """Whether every line begins with a well-known program; what a program wrote does not."""
    going_on = False
    for number, line in enumerate(block.text.split("\n")):
        code = line.strip()
        if code and not going_on and number not in block.others and number not in block.quoted:
            plain = code.startswith("#") or _ASSIGNS.match(code) or looks_like_commands(code)
            if not plain or _SAYS.match(code):
                return False
        going_on = line.endswith("\\")
    return True


def is_script(document: Document, block: Block) -> bool:
    """Whether a block is the text of a file: it begins with ``#!``, or the words above name it."""
    if block.text.lstrip().startswith("#!"):
        return True
    above = [line for line in document.lines[: block.line - 1] if line.strip()]
    return bool(above) and _SCRIPT.search(above[-1]) is not None


def is_prose(line: str) -> bool:
    """Whether a line without quotes around it is a sentence of a human language."""
    if _IDEOGRAPH.match(line) or _REMARK.match(line):
        return True
    words = line.split()
    if len(words) < _LEAST_WORDS or _SIGNS.search(line) or not _CAPITALISED.match(words[0]):
        return False
    return any(word.lower().strip(",.:") in _LITTLE for word in words)


def _yaml(lines: list[str], quoted: frozenset[int]) -> list[int]:
    """The lines from the first key to the last, where these are several and nothing else."""
    keys = [
        number
        for number, line in enumerate(lines)
        if ":" in line
        and number not in quoted
        and _KEY.match(line)
        and not _REMARK.match(line.strip())
    ]
    runs: list[list[int]] = []
    for number in keys:
        between = lines[runs[-1][-1] + 1 : number] if runs else []
        if runs and all(_BETWEEN_KEYS.match(line) for line in between):
            runs[-1].append(number)
        else:
            runs.append([number])
    found: list[int] = []
    for run in runs:
        nested = any(lines[number].rstrip().endswith(":") for number in run)
        if len(run) >= _LEAST_KEYS and nested:
            first, last = run[0], run[-1]
            while last + 1 < len(lines) and lines[last + 1].startswith((" ", "- ")):
                last += 1
            found += range(first, last + 1)
    return found


def yaml_runs(block: Block) -> list[tuple[int, str]]:
    """The YAML within a shell block: the line of each piece, from 0, and its text."""
    numbers = sorted(number for number, kind in block.others.items() if kind == "yaml")
    lines = block.typed.split("\n")
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [(run[0], "\n".join(lines[number] for number in run) + "\n") for run in runs]
