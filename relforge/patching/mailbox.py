"""Mailboxes: one patch file with several commits, as ``git format-patch --stdout`` writes it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

# `git format-patch` begins each commit with this line; its date is fixed (git-format-patch(1)).
_MAIL = re.compile(rb"^From [0-9a-f]{40,64} Mon Sep 17 00:00:00 2001\r?$", re.MULTILINE)
# Where git am sees a message end: three dashes, or the first diff (git-am(1), DISCUSSION).
_END_OF_MESSAGE = re.compile(rb"^(?:---\r?$|diff -)", re.MULTILINE)
_ENCODED = re.compile(
    rb"^Content-Transfer-Encoding: *(base64|quoted-printable)", re.MULTILINE | re.IGNORECASE
)
_LONGEST_MARK = 128
_FIRST_DIFF = re.compile(rb"^(?:diff -|--- [^\n]+\n\+\+\+ )", re.MULTILINE)


@dataclass(frozen=True)
class Mail:
    """One commit of a mailbox, or a whole plain diff: what stands before the diff, and the diff.

    The head of a mail ends before its three dashes; a diffstat belongs to neither. An empty
    ``diff``: there is none.
    """

    head: bytes
    diff: bytes
    is_mail: bool


class EncodedDiff(Exception):
    """A mail's body is base64 or quoted-printable: its diff cannot be read as it is."""


def pieces(content: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """The diffs of one patch file, each to be read to its end and applied before the next.

    A mailbox is taken apart at its commits: where a rename is among them, git apply relates all
    diffs of one input to the same base, and would lose what came before it. Raises EncodedDiff.
    """
    chunks = iter(content)
    first = next(chunks, b"")
    while len(first) < _LONGEST_MARK and (more := next(chunks, None)) is not None:
        first += more
    whole = itertools.chain([first], chunks)
    if not _MAIL.match(first.lstrip()[:_LONGEST_MARK]):
        yield whole
        return
    lines = _whole_lines(whole)
    rest: bytes | None = next(lines).lstrip()
    while rest is not None:
        rest = yield from _one_mail(rest, lines)


def mails(content: bytes) -> tuple[Mail, ...]:
    """The same with each diff's head, all at once. Raises EncodedDiff."""
    text = content.lstrip()
    if not _MAIL.match(text[:_LONGEST_MARK]):
        first = _FIRST_DIFF.search(content)
        cut = first.start() if first else len(content)
        return (Mail(content[:cut], content[cut:], is_mail=False),)
    found = []
    starts = [start.start() for start in _MAIL.finditer(text)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        mail = text[start:end]
        message_end = _END_OF_MESSAGE.search(mail)
        cut = message_end.start() if message_end else len(mail)
        if _ENCODED.search(mail[:cut].replace(b"\r\n", b"\n").partition(b"\n\n")[0]):
            raise EncodedDiff
        first = _FIRST_DIFF.search(mail, cut)
        found.append(Mail(mail[:cut], mail[first.start() :] if first else b"", is_mail=True))
    return tuple(found)


def _one_mail(
    block: bytes, lines: Iterator[bytes]
) -> Generator[Iterator[bytes], None, bytes | None]:
    """Yields one commit's diff; returns what begins with the next commit's first line, or None."""
    head, body = b"", block
    # The message, which may quote diffs, is passed over.
    while True:
        end = _END_OF_MESSAGE.search(body)
        following = _MAIL.search(body, 1 if body is block else 0)
        if following and not (end and end.start() < following.start()):
            return body[following.start() :]
        head += body[: end.start() if end else None]
        if end:
            break
        if (more := next(lines, None)) is None:
            return None
        body = more
    if _ENCODED.search(head.replace(b"\r\n", b"\n").partition(b"\n\n")[0]):
        raise EncodedDiff
    rest: list[bytes | None] = [None]

    def diff() -> Iterator[bytes]:
        block: bytes | None = body[end.start() :]
        while block is not None:
            following = _MAIL.search(block)
            if following:
                yield block[: following.start()]
                rest[0] = block[following.start() :]
                return
            yield block
            block = next(lines, None)

    yield diff()
    return rest[0]


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, each block ending with a line (but perhaps the last)."""
    carry: list[bytes] = []
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join((*carry, chunk[:cut]))
            carry = []
        carry.append(chunk[cut:])
    if any(carry):
        yield b"".join(carry)
