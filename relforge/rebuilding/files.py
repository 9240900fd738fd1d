"""What differs between the files of two layers. Each layer is read once, or twice for hints.

Of each entry of the first layer a few hundred bytes are held (100,000 files: some 60 MB), of files'
contents nothing but what the hints look at: at most ``HINTED`` files of ``HINT_BYTES``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from relforge.cancel import CancelToken
from relforge.rebuilding.entries import Entry, opened
from relforge.rebuilding.hints import content_hint
from relforge.rebuilding.model import FileDifference, FileKind

LISTED = 1000
"""How many paths of a layer a report has at most."""
HINTED = 20
HINT_BYTES = 4 << 20


@dataclass
class FilesCompared:
    """``files`` are at most ``LISTED``, sorted; ``counts`` and ``differ`` count all of them.

    ``order`` is the first path that both layers have, and not at the same place among those.
    """

    files: tuple[FileDifference, ...] = ()
    counts: Counter[FileKind] = field(default_factory=Counter)
    differ: int = 0
    order: str | None = None
    first_diff_id: str = ""
    second_diff_id: str = ""


def compare_files(
    first: Callable[[], IO[bytes]],
    second: Callable[[], IO[bytes]],
    *,
    names: tuple[str, str],
    cancel: CancelToken | None = None,
) -> FilesCompared:
    """Compares two layers, which the callables open; ``names`` are for messages.

    Raises RelforgeError (BUILD) when one cannot be read.
    """
    result = FilesCompared()
    with opened(first, names[0], cancel) as layer:
        left = dict(_numbered(layer.entries()))
        result.first_diff_id = layer.diff_id()
    found: list[FileDifference] = []
    common: list[tuple[str, int]] = []

    def add(path: str, kinds: tuple[FileKind, ...], detail: str) -> None:
        result.differ += 1
        result.counts.update(kinds)
        if len(found) < LISTED:
            found.append(FileDifference(path=path, kinds=kinds, detail=detail))

    seen: set[tuple[str, int]] = set()
    with opened(second, names[1], cancel) as layer:
        for key, entry in _numbered(layer.entries()):
            before = left.get(key)
            if before is None:
                add(entry.path, ("extra",), _described(entry))
                continue
            seen.add(key)
            common.append(key)
            if before != entry and (kinds := _kinds(before, entry)):
                add(entry.path, kinds, _both(before, entry, kinds))
        result.second_diff_id = layer.diff_id()
    for key, entry in left.items():
        if key not in seen:
            add(entry.path, ("missing",), _described(entry))
    result.order = _out_of_order((key for key in left if key in seen), common)
    hints = _hints([f.path for f in found if "content" in f.kinds], first, second, names, cancel)
    result.files = tuple(
        sorted(
            (f.model_copy(update={"hint": hints.get(f.path)}) for f in found),
            key=lambda f: f.path,
        )
    )
    return result


def _numbered(entries: Iterable[Entry]) -> Iterator[tuple[tuple[str, int], Entry]]:
    # A tar may hold one path several times; the last one counts when it is unpacked.
    times: Counter[str] = Counter()
    for entry in entries:
        yield (entry.path, times[entry.path]), entry
        times[entry.path] += 1


def _kinds(left: Entry, right: Entry) -> tuple[FileKind, ...]:
    if left.type != right.type:
        return ("type",)
    pairs: tuple[tuple[FileKind, object, object], ...] = (
        ("content", left.sha256, right.sha256),
        ("mode", left.mode, right.mode),
        ("owner", (left.uid, left.gid, left.names), (right.uid, right.gid, right.names)),
        ("mtime", left.mtime_s, right.mtime_s),
        ("link", left.link, right.link),
        ("device", left.device, right.device),
        ("xattrs", left.xattrs, right.xattrs),
        ("headers", left.headers, right.headers),
    )
    return tuple(kind for kind, one, other in pairs if one != other)


def _both(left: Entry, right: Entry, kinds: tuple[FileKind, ...]) -> str:
    return "; ".join(f"{kind} {_value(left, kind)} → {_value(right, kind)}" for kind in kinds)


def _value(entry: Entry, kind: FileKind) -> str:
    if kind == "content":
        return f"{entry.sha256.hex()[:12]} ({entry.size_bytes} B)"
    if kind == "mtime":
        return _time(entry.mtime_s)
    if kind == "owner":
        named = "".join(f" {name}" for name in entry.names if name)
        return f"{entry.uid}:{entry.gid}{named}"
    if kind == "mode":
        return f"{entry.mode:04o}"
    if kind in ("xattrs", "headers"):
        pairs = entry.xattrs if kind == "xattrs" else entry.headers
        return ", ".join(f"{name}={value!r}" for name, value in pairs) or "none"
    return str(getattr(entry, kind))


def _described(entry: Entry) -> str:
    return f"{entry.type}, {entry.size_bytes} B" if entry.type == "file" else entry.type


def _time(seconds: float) -> str:
    try:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
    part = f"{seconds % 1:.9f}".rstrip("0")[1:] if seconds % 1 else ""
    return f"{text}{part}Z"


def _out_of_order(left: Iterable[tuple[str, int]], right: Iterable[tuple[str, int]]) -> str | None:
    for one, other in zip(left, right, strict=True):
        if one != other:
            return other[0]
    return None


def _hints(
    paths: list[str],
    first: Callable[[], IO[bytes]],
    second: Callable[[], IO[bytes]],
    names: tuple[str, str],
    cancel: CancelToken | None,
) -> dict[str, str]:
    wanted = set(paths[:HINTED])
    if not wanted:
        return {}
    one = _contents(first, wanted, names[0], cancel)
    other = _contents(second, wanted, names[1], cancel)
    return {
        path: hint
        for path in wanted
        if path in one and path in other
        and (hint := content_hint(path, one[path], other[path])) is not None
    }  # fmt: skip


def _contents(
    source: Callable[[], IO[bytes]], wanted: set[str], name: str, cancel: CancelToken | None
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with opened(source, name, cancel) as layer:
        for entry, content in layer.members():
            if entry.path in wanted and content is not None and entry.size_bytes <= HINT_BYTES:
                found[entry.path] = content.read()
                if len(found) == len(wanted):
                    break
    return found
