"""Sealed content that an image may not ship, recognised without leaving it anywhere.

A sealed patch set is opened once more for the scan, in a private work area, and what it adds or
changes stays in this process's memory: hashes of whole files, lines and names that stand nowhere
in the unpatched source. Neither hashes nor paths enter a record: both would let somebody confirm a
guess about what was sealed. A hit names the file in the image and the patch set, nothing else.

``ships`` of a set: with ``python`` everything may be shipped, and nothing is looked for; with
``binaries`` what is compiled (native code, bytecode) may be; with ``none`` nothing may.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import ahocorasick_rs

Keeps = Literal["none", "binaries"]
_SHORTEST_LINE = 24
_SHORTEST_NAME = 12
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{%d,}" % (_SHORTEST_NAME - 1))
_NAMES_NEEDED = 3
_ELF = b"\x7fELF"
_OBJECT = re.compile(r"(?:.*/)?objects/([0-9a-f]{2})/([0-9a-f]{38}|[0-9a-f]{62})")
_PACK = re.compile(r"(?:.*/)?objects/pack/[^/]+\.pack")


@dataclass(frozen=True)
class SealedFile:
    """One file as a sealed patch set leaves it: content, hash of its git object, added lines."""

    stem: str
    oid: str
    content: bytes = field(repr=False)
    added: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class SealedMarkers:
    """What gives the content of one sealed set away."""

    name: str
    ships: Keeps
    hashes: frozenset[str] = field(repr=False)
    oids: frozenset[str] = field(repr=False)
    sources: Mapping[tuple[str, int], tuple[bytes, ...]] = field(repr=False)
    """Contents of Python files by stem and size."""
    lines: _Words = field(repr=False)
    names: _Words = field(repr=False)

    @classmethod
    def of(
        cls, name: str, ships: Keeps, files: Iterable[SealedFile], unpatched: Iterable[bytes]
    ) -> SealedMarkers:
        """``unpatched`` are all files of the source without the patches."""
        every = tuple(files)
        lines = {line for file in every for line in map(bytes.strip, file.added)
                 if len(line) >= _SHORTEST_LINE and len(_WORDS.findall(line)) > 1}  # fmt: skip
        names = {word for file in every for line in file.added for word in _NAME.findall(line)}
        lines, names = _nowhere_in(unpatched, lines, names)
        sources: dict[tuple[str, int], tuple[bytes, ...]] = {}
        for file in every:
            key = (file.stem, len(file.content))
            sources[key] = (*sources.get(key, ()), file.content)
        return cls(
            name=name,
            ships=ships,
            # The empty file, and others of a few bytes, are everywhere.
            hashes=frozenset(
                hashlib.sha256(f.content).hexdigest() for f in every if len(f.content) >= 64
            ),
            oids=frozenset(f.oid for f in every),
            sources=sources,
            lines=_Words(lines),
            names=_Words(names),
        )


_WORDS = re.compile(rb"[A-Za-z0-9_]{2,}")


class _Words:
    """A set of byte strings to be found in others, all at once."""

    def __init__(self, words: Iterable[bytes]) -> None:
        self.words = tuple(sorted(words))
        self._found = (
            ahocorasick_rs.BytesAhoCorasick(
                self.words, matchkind=ahocorasick_rs.MatchKind.LeftmostLongest
            )
            if self.words
            else None
        )

    def __len__(self) -> int:
        return len(self.words)

    def within(self, data: bytes) -> frozenset[int]:
        """Numbers of the words that are in the data."""
        if self._found is None:
            return frozenset()
        return frozenset(number for number, _, _ in self._found.find_matches_as_indexes(data))


def _nowhere_in(
    contents: Iterable[bytes], lines: set[bytes], names: set[bytes]
) -> tuple[set[bytes], set[bytes]]:
    """What stands in none of the contents, not even as part of something longer."""
    # Of words that overlap one look finds the longest: a second one finds those it covered.
    every = tuple(contents)
    while True:
        known = _Words(lines), _Words(names)
        found = [
            frozenset().union(*(words.within(content) for content in every)) for words in known
        ]
        if not any(found):
            return lines, names
        lines = lines - {known[0].words[number] for number in found[0]}
        names = names - {known[1].words[number] for number in found[1]}


class SealedWatch:
    """Watches one file go by, for all sealed sets."""

    def __init__(self, sealed: tuple[SealedMarkers, ...], path: str, lines_needed: int) -> None:
        self._sealed = sealed
        self._path = path
        self._lines_needed = lines_needed
        self._hash = hashlib.sha256()
        self._head = b""
        self._lines: dict[str, set[int]] = {one.name: set() for one in sealed}
        self._names: dict[str, set[int]] = {one.name: set() for one in sealed}

    def feed(self, data: bytes, known: int = 0) -> None:
        """The next window, whose first ``known`` bytes were in the window before."""
        self._head = self._head or data[:64]
        self._hash.update(data[known:])
        for one in self._sealed:
            self._lines[one.name] |= one.lines.within(data)
            if one.ships == "none":
                self._names[one.name] |= one.names.within(data)

    def verdicts(self) -> Iterator[tuple[str, str, bool]]:
        """Rule, words, and whether no policy may let it through."""
        digest = self._hash.hexdigest()
        for one in self._sealed:
            what = f"sealed content of {one.name}, which ships {_SHIPS[one.ships]}"
            if digest in one.hashes:
                yield "sealed-file", what, True
            elif self._git_object(one.oids):
                yield "sealed-git-object", f"{what}: an object of git", True
            elif _PACK.fullmatch(self._path):
                yield "sealed-unreadable", f"a pack of git, which may hold {what}", False
            elif one.ships == "none" and self._compiled_from(one):
                yield "sealed-bytecode", f"bytecode of {what}", True
            elif self._head.startswith(_ELF) or self._path.endswith(".pyc"):
                if one.ships == "none" and _enough(self._names[one.name], one.names, _NAMES_NEEDED):
                    yield "sealed-names", f"compiled from {what}", False
            elif _enough(self._lines[one.name], one.lines, self._lines_needed):
                yield "sealed-lines", f"lines of {what}", False

    def _git_object(self, oids: frozenset[str]) -> bool:
        found = _OBJECT.fullmatch(self._path)
        return found is not None and found[1] + found[2] in oids

    def _compiled_from(self, one: SealedMarkers) -> bool:
        """By the head of a .pyc (PEP 552): the hash of its source, or its source's size."""
        if not self._path.endswith(".pyc") or len(self._head) < 16:
            return False
        stem = self._path.rpartition("/")[2].partition(".")[0]
        flags = int.from_bytes(self._head[4:8], "little")
        if flags & 1:
            wanted = self._head[8:16]
            return any(
                known == stem and any(source_hash(self._head[:4], c) == wanted for c in contents)
                for (known, _), contents in one.sources.items()
            )
        return (stem, int.from_bytes(self._head[12:16], "little")) in one.sources


_SHIPS: dict[Keeps, str] = {"none": "nothing", "binaries": "binaries alone"}


def _enough(found: set[int], words: _Words, needed: int) -> bool:
    return bool(found) and len(found) >= min(needed, len(words))


def source_hash(magic: bytes, content: bytes) -> bytes:
    """What a hash-based .pyc with that magic number has of its source (8 bytes).

    It is a keyed SipHash, whose rounds differ between Python 3.10 and later ones: of a .pyc of the
    other kind the hash says nothing, and the names in it have to tell.
    """
    import _imp

    assert importlib.util.MAGIC_NUMBER  # the key is a magic number as this module makes it
    return bytes(_imp.source_hash(int.from_bytes(magic, "little"), content))
