"""Searches contents for everything at once, and keeps what was found."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from relforge.cancel import CancelToken
from relforge.manifest.publishing import ContentPolicy
from relforge.scanning import names
from relforge.scanning.allowances import BUILT_IN
from relforge.scanning.hits import Hit, Kind, Let, Searched, Unread
from relforge.scanning.rules import CONTEXT, Searcher
from relforge.scanning.sealed import SealedMarkers, SealedWatch

BLOCK = 32 << 20
"""Bytes of a file that are held at once; a larger file comes in several blocks."""
_LINES_PER_FILE = 5


@dataclass(frozen=True)
class Finder:
    """What to look for. ``sealed`` are contents that must not be shipped; ``text_only``: the files
    are evidence and cards, where one line of sealed source is enough."""

    searcher: Searcher
    policy: ContentPolicy
    sealed: tuple[SealedMarkers, ...] = ()
    cancel: CancelToken | None = None


@dataclass
class Found:
    """What was found so far in one layer or group of files."""

    finder: Finder
    layer: str | None = None
    step: str | None = None
    lines_needed: int = 3
    """Lines of sealed source in one file that make it a copy of it."""
    files: int = 0
    size: int = 0
    archives: int = 0
    _hits: dict[tuple[str, ...], Hit] = field(default_factory=dict)
    _let: dict[tuple[Kind, str, str, str], int] = field(default_factory=dict)
    _unread: dict[str, str] = field(default_factory=dict)

    def searched(self) -> Searched:
        """The result, in an order that content alone decides."""
        return Searched(
            files=self.files,
            bytes=self.size,
            archives=self.archives,
            hits=tuple(sorted(self._hits.values(), key=lambda h: (h.path, h.line or 0, h.rule))),
            let=tuple(
                Let(kind=kind, rule=rule, path=path, reason=reason, count=count)
                for (kind, rule, path, reason), count in sorted(self._let.items())
            ),
            unread=tuple(Unread(path=p, why=why) for p, why in sorted(self._unread.items())),
        )

    def unread(self, path: str, why: str) -> None:
        """Notes what could not be looked into."""
        self._unread.setdefault(path, why)

    def note(
        self, kind: Kind, rule: str, what: str, path: str, *, line: int | None = None,
        final: bool = False,
    ) -> None:  # fmt: skip
        """A hit, or what is let through where the policy or a built-in pattern allows it."""
        reason = None if final else _allowed(self.finder.policy, kind, path)
        if reason is not None:
            key = (kind, rule, path, reason)
            self._let[key] = self._let.get(key, 0) + 1
            return
        same = [key for key in self._hits if key[:2] == (rule, path)] if self._hits else []
        if len(same) < _LINES_PER_FILE:
            self._hits[rule, path, str(line or "")] = Hit(
                kind=kind, rule=rule, what=what, path=path, layer=self.layer, step=self.step,
                line=line,
            )  # fmt: skip

    def text(self, path: str, data: bytes) -> None:
        """Searches a text that is no file, such as a label."""
        for match in self.finder.searcher.search(data):
            rule = match.rule
            self.note(rule.kind, rule.name, rule.what, path, final=rule.final)
        if (watch := self._watch("")) is not None:
            watch.feed(data)
            self._note_sealed(watch, path)

    def paths(self, entries: Iterable[str]) -> None:
        """Searches the paths themselves: a folder's name may tell what no file says."""
        joined = "\n".join(f"/{entry}" for entry in entries).encode("utf-8", "surrogateescape")
        for match in self.finder.searcher.search(joined):
            rule = match.rule
            start = joined.rfind(b"\n", 0, match.at) + 1
            end = joined.find(b"\n", match.at)
            path = joined[start : end if end >= 0 else len(joined)].decode("utf-8", "replace")
            # The path holds what must not be shown, except a host's path: that helps.
            shown = path if rule.kind in ("home-path", "host", "word") else "(the name of a file)"
            self.note(rule.kind, rule.name, f"{rule.what}, in a name", shown, final=rule.final)

    def file(self, path: str, stream: IO[bytes], size: int) -> None:
        """Searches one file. ``path`` is as in the archive, without a slash in front."""
        self.files += 1
        self.size += size
        shown = f"/{path}"
        inside = path.rpartition("!")[2].lstrip("/")
        if (left := names.leftover(inside)) is not None and size:
            self.note("leftover", "leftover", left[1], f"/{left[0]}")
        blocks: Iterable[bytes] = _read(stream)
        if size <= BLOCK:
            blocks = [b"".join(blocks)]
            if names.may_be_credential(inside):
                known = names.credential_file(inside, blocks[0])
                if known is not None:
                    self.note("credential-file", known.name, known.what, shown)
        watch = self._watch(path)
        for window in _windows(blocks):
            data = window.data
            for match in self.finder.searcher.search(data, window.start, window.end):
                rule, line = match.rule, None
                if window.lines is not None:
                    line = window.lines + data.count(b"\n", 0, match.at) + 1
                self.note(rule.kind, rule.name, rule.what, shown, line=line, final=rule.final)
            if watch is not None:
                watch.feed(data, window.known)
            if self.finder.cancel is not None:
                self.finder.cancel.check()
        if watch is not None:
            self._note_sealed(watch, shown)

    def _watch(self, path: str) -> SealedWatch | None:
        sealed = self.finder.sealed
        return SealedWatch(sealed, path, self.lines_needed) if sealed else None

    def _note_sealed(self, watch: SealedWatch, path: str) -> None:
        for rule, what, final in watch.verdicts():
            self.note("sealed", rule, what, path, final=final)


def _allowed(policy: ContentPolicy, kind: Kind, path: str) -> str | None:
    """The reason why something of that kind may be in that file."""
    for pattern, reason in policy.allowed.items():
        if _matches(path, pattern):
            return reason
    return next((a.reason for a in BUILT_IN if kind in a.kinds and _matches(path, a.path)), None)


def _matches(path: str, pattern: str) -> bool:
    outer = path.partition("!")[0]
    wanted = pattern if pattern.startswith(("/", "*")) else f"/{pattern}"
    return fnmatch.fnmatchcase(path, wanted) or fnmatch.fnmatchcase(outer, wanted)


def _read(stream: IO[bytes]) -> Iterator[bytes]:
    """Blocks of one size, however little the stream gives at once."""
    while block := stream.read(BLOCK):
        while len(block) < BLOCK and (more := stream.read(BLOCK - len(block))):
            block += more
        yield block


@dataclass(frozen=True)
class _Window:
    """A block of a file with context around it. Anchors are looked for in ``data[start:end]``;
    the first ``known`` bytes were in the window before, and ``lines`` lines are before the data."""

    data: bytes
    known: int
    start: int
    end: int
    lines: int | None


def _windows(blocks: Iterable[bytes]) -> Iterator[_Window]:
    rest = iter(blocks)
    block = next(rest, b"")
    lines = 0 if b"\0" not in block[:8192] else None
    held, start = b"", 0
    while True:
        following = next(rest, None)
        data = held + block
        if following is None:
            yield _Window(data, len(held), start, len(data), lines)
            return
        end = len(data) - CONTEXT
        yield _Window(data, len(held), start, end, lines)
        keep = max(0, end - CONTEXT)
        if lines is not None:
            lines += data.count(b"\n", 0, keep)
        held, start, block = data[keep:], end - keep, following
