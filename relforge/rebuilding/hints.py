"""What kind of change made a file's content another one, where that is cheap to tell.

Formats: the header of bytecode (PEP 552), gzip's header (RFC 1952), ZIP (APPNOTE 6.3.10), GNU build
ids (an ELF note of type NT_GNU_BUILD_ID).
"""

from __future__ import annotations

import io
import re
import struct
import time
import zipfile
import zlib

_PYC_HEADER_BYTES = 16
_BUILD_ID = b"\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"
_BUILD_ID_BYTES = 20
_WITH_GZIP_HEADER = 31
_MOST_BYTES = 64 << 20
_PRIVATE_KEY = "PRIVATE KEY-----"
_SHOWN = 60
_PRINTABLE = re.compile(rb"[\x20-\x7e]{4,}")
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w* +\d"
)
_SECONDS = re.compile(r"\d{10}(\.\d+)?")


def content_hint(path: str, first: bytes, second: bytes) -> str | None:
    """One phrase, or None where nothing can be told. Contents are only looked at, never run."""
    if path.endswith(".pyc") and len(first) > _PYC_HEADER_BYTES < len(second):
        return _bytecode(first, second)
    if first[:4] == second[:4] == b"PK\x03\x04":
        return _zip(first, second)
    if first[:2] == second[:2] == b"\x1f\x8b":
        return _gzip(first, second)
    if path == "/var/lib/dpkg/status":
        return _debian(first, second)
    try:
        return _text(first.decode(), second.decode())
    except UnicodeDecodeError:
        return _binary(first, second)


def _bytecode(first: bytes, second: bytes) -> str:
    if first[:4] != second[:4]:
        return "bytecode of another version of Python"
    if first[4:8] != second[4:8]:
        return "bytecode that is checked in another way (time or hash of its source)"
    same_code = first[_PYC_HEADER_BYTES:] == second[_PYC_HEADER_BYTES:]
    by_hash = first[4] & 1
    if same_code and not by_hash:
        if first[8:12] != second[8:12]:
            one, other = (struct.unpack("<I", data[8:12])[0] for data in (first, second))
            return f"embedded time in the header of the bytecode: {_utc(one)} → {_utc(other)}"
        return "size of the source in the header of the bytecode"
    if same_code:
        return "the source's hash in the header of the bytecode; the code is the same"
    return "the code itself: another source, another path of it, or references in another order"


def _zip(first: bytes, second: bytes) -> str | None:
    try:
        one, other = (zipfile.ZipFile(io.BytesIO(data)).infolist() for data in (first, second))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return "a damaged zip"
    names = [[member.filename for member in members] for members in (one, other)]
    if sorted(names[0]) != sorted(names[1]):
        odd = sorted(set(names[0]) ^ set(names[1])) or sorted(names[0])
        return f"other members of a zip: {_cut(odd[0])!r}"
    by_name = {member.filename: member for member in other}
    changed = [m.filename for m in one if m.CRC != by_name[m.filename].CRC]
    if changed:
        return f"content of {len(changed)} members of a zip: {_cut(changed[0])!r}"
    times = sum(m.date_time != by_name[m.filename].date_time for m in one)
    if times:
        return f"times of {times} members of a zip"
    if names[0] != names[1]:
        return "order of the members of a zip"
    if any(m.external_attr != by_name[m.filename].external_attr for m in one):
        return "modes of the members of a zip"
    return "a zip with the same members, packed in another way"


def _gzip(first: bytes, second: bytes) -> str | None:
    try:
        one, other = (
            zlib.decompressobj(_WITH_GZIP_HEADER).decompress(data, _MOST_BYTES)
            for data in (first, second)
        )
    except zlib.error:
        return None
    if one != other:
        return "the content of a gzip file"
    if first[4:8] != second[4:8]:
        return "embedded time in the header of a gzip file; its content is the same"
    return "a gzip file of the same content, compressed in another way"


def _debian(first: bytes, second: bytes) -> str:
    from relforge.engine.rootfs import packages

    one, other = (dict(packages(data.decode("utf-8", "replace"))) for data in (first, second))
    changed = [
        f"{name} {one.get(name, 'none')} → {other.get(name, 'none')}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    if not changed:
        return "what dpkg says of packages; their versions are the same"
    more = f", and {len(changed) - 5} more" if len(changed) > 5 else ""
    return f"other Debian packages: {', '.join(changed[:5])}{more}"


def _text(first: str, second: str) -> str:
    if _PRIVATE_KEY in first or _PRIVATE_KEY in second:
        return "a private key, which no image should hold; it is not shown"
    one, other = first.splitlines(), second.splitlines()
    if sorted(one) == sorted(other):
        return "the same lines in another order" if one != other else "ends of lines"
    at = next(
        (i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )
    left, right = (lines[at] if at < len(lines) else "" for lines in (one, other))
    kind = ""
    for name, pattern in (("a date", _DATE), ("a time in seconds", _SECONDS)):
        if pattern.search(left) and pattern.sub("", left) == pattern.sub("", right):
            kind = f" ({name})"
            break
    return f"line {at + 1}{kind}: {_around(left, right)}"


def _binary(first: bytes, second: bytes) -> str:
    at = next(
        (i for i, (left, right) in enumerate(zip(first, second, strict=False)) if left != right),
        min(len(first), len(second)),
    )
    note = first.find(_BUILD_ID)
    if note >= 0 and len(first) == len(second):
        start, end = note + len(_BUILD_ID), note + len(_BUILD_ID) + _BUILD_ID_BYTES
        if first[:start] + first[end:] == second[:start] + second[end:]:
            return "the build id alone"
    words = [_word_at(data, at) for data in (first, second)]
    if all(words) and words[0] != words[1]:
        return f"bytes from offset {at}: {_around(*(w.decode('ascii') for w in words))}"
    return f"bytes from offset {at} of {len(first)}"


def _word_at(data: bytes, at: int) -> bytes:
    """The printable text around an offset, or nothing."""
    start = max(0, at - 4 * _SHOWN)
    for found in _PRINTABLE.finditer(data, start, at + 4 * _SHOWN):
        if found.start() <= at < found.end():
            return found[0]
    return b""


def _around(left: str, right: str) -> str:
    """Both texts, cut to where they begin to differ."""
    at = next(
        (i for i, (one, other) in enumerate(zip(left, right, strict=False)) if one != other),
        min(len(left), len(right)),
    )
    begin = max(0, at - _SHOWN // 3)
    return " → ".join(("…" if begin else "") + repr(_cut(text[begin:])) for text in (left, right))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
