"""A card's steps: its shell blocks in order, and what the card says about each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from relforge.card.execute.expected import Expected
from relforge.card.execute.markers import ExpectMarker, StepMarker, markers
from relforge.card.execute.script import Script, script
from relforge.card.lint.document import Block, Document
from relforge.errors import ExitCode, RelforgeError

_PRINTED = frozenset(("", "text", "txt", "json", "jsonc", "output", "console", "plaintext", "none"))
_OTHER_CODE = frozenset(("python", "py", "python3", "pycon", "ipython", "javascript", "js", "go"))
_ANNOUNCES = re.compile(
    r"\b(?:prints?|answers?|outputs?|expect(?:ed|s)?|returns?|replies|reply|responds?|response|"
    r"results?|shows?|looks? like|should see)\b|输出|返回|预期|期望|打印|显示|回答|应答|响应|结果",
    re.I,
)
# The words right before a code span that make it the expected output; not any span of a sentence
# about output: "the output goes to `log`".
_SAYS = re.compile(
    r"(?:\b(?:prints?|answers?|returns?|replies(?: with)?|outputs|"
    r"(?:text|answer|output|reply|response|result)\b[^.`]{0,40}\b(?:is|reads|says|should be)|"
    r"expected(?: output| answer| result| text)?(?: is)?|(?:should|will) see)"
    r"|(?:输出|返回|打印|回答|预期|期望|答案|结果|文本)(?:的?(?:内容|文本|结果|输出|答案))?"
    r"(?:应)?(?:为|是)?)\s*[:\uff1a]?\s*[\"\u201c]?$",
    re.I,
)
_ELSEWHERE = re.compile(
    r"\b(?:another|new|second|other|separate|different)\s+(?:terminal|shell|window|tab)\b"
    r"|\bon the host\b|另一个?终端|另开|新(?:的)?终端|新(?:的)?窗口|宿主机",
    re.I,
)
_READY = re.compile(r"\b(?:ready|healthy|up)\b|就绪|健康|启动完成", re.I)


@dataclass(frozen=True)
class Step:
    """One shell block. ``number`` counts from 1; ``section``: the heading above it."""

    number: int
    block: Block
    script: Script
    section: str
    marker: StepMarker | None
    expected: Expected | None
    ready_path: str | None
    """Of an unmarked card: where the words before it say that the server is asked."""
    new_terminal: bool
    profile: str | None = None
    """The launch profile for which it runs, where the card has several."""
    runs_here: bool = True
    """False for code that is no shell's."""

    @property
    def name(self) -> str:
        """What it does, where the card says so."""
        return self.marker.name if self.marker else ""

    @property
    def line(self) -> int:
        """Of the block's first line of code."""
        return self.block.first_line


def steps(document: Document) -> tuple[Step, ...]:
    """All shell blocks. Raises RelforgeError (USAGE) for a marker that says nothing."""
    found: list[Step] = []
    marked = list(markers(document))
    expect_lines = {m.line for m in marked if isinstance(m, ExpectMarker)}
    _check_expectations(document, expect_lines)
    end = 0
    for block in document.blocks:
        between = [m for m in marked if end < m.line <= block.line]
        mine = [m for m in between if isinstance(m, StepMarker)]
        outputs = [m for m in between if isinstance(m, ExpectMarker)]
        prose = [p for p in document.prose if end < p.line < block.line]
        words = "\n".join(p.text for p in prose)
        if outputs or (found and _is_output(block, words)):
            found[-1] = _with_output(found[-1], block, outputs[-1] if outputs else None)
        elif block.is_shell or mine:
            marker = mine[-1] if mine else None
            found.append(_step(document, block, len(found) + 1, marker, words))
        elif block.language in _OTHER_CODE:
            found.append(_step(document, block, len(found) + 1, None, words))
        end = block.first_line + block.text.count("\n")
    lines = [step.block.line for step in found[1:]] + [len(document.lines) + 1]
    return tuple(
        _with_sentence(document, step, until) for step, until in zip(found, lines, strict=False)
    )


def for_profiles(found: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps in the order in which they are run.

    Starts with a profile are alternatives: what follows the last of them (requests, stop) is run
    after each.
    """
    starts = [step for step in found if step.marker and step.marker.profile]
    if len({step.marker.profile for step in starts if step.marker}) < 2:
        return found
    first, last = found.index(starts[0]), found.index(starts[-1])
    between = [s for s in found[first:last] if s not in starts]
    tail = list(_tail(found[last + 1 :]))
    ordered = list(found[:first]) + between
    for start in starts:
        assert start.marker is not None
        profile = start.marker.profile
        ordered.append(replace(start, profile=profile))
        ordered += [replace(step, profile=profile) for step in tail]
    ordered += found[last + 1 + len(tail) :]
    return tuple(ordered)


def _tail(following: tuple[Step, ...]) -> Iterable[Step]:
    for step in following:
        if step.name not in ("request", "stop"):
            return
        yield step


def _step(
    document: Document, block: Block, number: int, marker: StepMarker | None, words: str
) -> Step:
    heading = document.section_of(block.line)
    shell = block.is_shell or marker is not None
    made = script(block.text, block.first_line) if shell else Script(block.text, ())
    printed = None if made.transcript is None else Expected(made.transcript, block.first_line)
    path = None
    if _READY.search(words):
        spans = re.findall(r"`(/[\w./-]*)`", words)
        path = spans[-1] if spans else None
    return Step(
        number=number,
        block=block,
        script=made,
        section=heading.text if heading else "",
        marker=marker,
        expected=printed,
        ready_path=path,
        new_terminal=marker.new_terminal if marker else bool(_ELSEWHERE.search(words)),
        profile=None,
        runs_here=shell,
    )


def _is_output(block: Block, words: str) -> bool:
    plain = block.language in _PRINTED and not block.is_shell
    # A block in a language of terminals without a prompt is output, too, when it is announced.
    return plain and _ANNOUNCES.search(words) is not None


def _with_output(step: Step, block: Block, marker: ExpectMarker | None) -> Step:
    is_json = block.language.startswith("json")
    expected = Expected(
        block.text.strip("\n"),
        block.first_line,
        is_json=is_json,
        contains=marker.contains if marker else False,
    )
    return replace(step, expected=expected)


def _with_sentence(document: Document, step: Step, until: int) -> Step:
    """The code span of the first sentence after a block that says what comes out."""
    if step.expected is not None:
        return step
    end = step.block.first_line + step.block.text.count("\n")
    headings = [h.line for h in document.headings if h.line > end]
    until = min([until, *headings])
    for part in document.prose:
        if end < part.line < until:
            for span in re.finditer(r"(`+)(.+?)\1", part.text):
                if _SAYS.search(part.text[: span.start()]):
                    return replace(step, expected=Expected(span[2], part.line, span=True))
    return step


def _check_expectations(document: Document, lines: set[int]) -> None:
    for line in sorted(lines):
        after = [block for block in document.blocks if block.line > line]
        before = [block for block in document.blocks if block.line < line]
        if after and before:
            continue
        raise RelforgeError(
            "a marker of the card stands nowhere",
            code=ExitCode.USAGE,
            where=f"{document.name}:{line}",
            why="relforge:expect stands between a command and the block with its output",
            hint="docs/card-test.md has the grammar",
        )
