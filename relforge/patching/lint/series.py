"""Checks a folder with plain patches and their series: every problem, not only the first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from relforge.errors import RelforgeError
from relforge.files import sha256_file
from relforge.patching.lint.content import (
    Place,
    check_file,
    check_patch,
    is_plain_patch,
    stray_name,
)
from relforge.patching.lint.model import Finding, LintReport, finding, report
from relforge.patching.mailbox import EncodedDiff, mails
from relforge.patching.series import SERIES, check_patch_name, read_series

_LARGEST_SERIES = 1 << 20
_LARGEST_FILE = 64 << 20


def is_patches_folder(folder: Path) -> bool:
    """Whether a folder holds patches of its own, or a series."""
    with contextlib.suppress(OSError):
        if (folder / "hardware").is_dir():
            return False  # a clone of FlagScale, in which a patch may lie about
        return (folder / SERIES).is_file() or any(is_plain_patch(p.name) for p in folder.iterdir())
    return False


def lint_series(folder: Path) -> LintReport:
    """Every finding of a patches folder. Nothing is applied: a folder names no base."""
    findings: list[Finding] = []
    listed: dict[str, int] = {}
    findings += _series(folder, listed)
    files = {p.relative_to(folder).as_posix(): p for p in _files(folder)}
    sums: dict[str, str] = {}
    for name, path in files.items():
        if is_plain_patch(name) or name in listed:
            findings += _patch(name, path, listed, sums)
        elif name != SERIES:
            findings += _other(name, path)
    if not any(one.id.startswith("series") and one.severity == "error" for one in findings):
        # What applies the set has the last word.
        try:
            read_series(folder)
        except RelforgeError as error:
            where = error.where.removeprefix(f"{folder}/") if error.where else SERIES
            message = f"{error.what}: {error.why}"
            findings.append(finding("series-unusable", "error", where, message, "correct it"))
    return report("patches", str(folder), None, len(listed), findings)


def _series(folder: Path, listed: dict[str, int]) -> Iterator[Finding]:
    """Reads the list; fills *listed* with the names that can be patches, and their lines."""
    try:
        with (folder / SERIES).open("rb") as handle:
            text = handle.read(_LARGEST_SERIES + 1)
    except OSError as error:
        message = f"the file that orders the patches cannot be read: {error.strerror}"
        remedy = "list the patches in it, one file name a line, in the order to apply them"
        yield finding("series-missing", "error", SERIES, message, remedy)
        return
    if len(text) > _LARGEST_SERIES:
        yield finding("series-line", "error", SERIES, "it is larger than 1 MiB", "shorten it")
        return
    for number, raw in enumerate(text.split(b"\n"), 1):
        yield from _line(folder, number, raw, listed)
    if not listed:
        message = "it names no patch that is there"
        yield finding("series-empty", "error", SERIES, message, "list the patches in it")


def _line(folder: Path, number: int, raw: bytes, listed: dict[str, int]) -> Iterator[Finding]:
    where = f"{SERIES}:{number}"
    try:
        words = raw.decode().split()
    except UnicodeDecodeError:
        message = "the line is not UTF-8"
        yield finding("series-line", "error", where, message, "write it again")
        return
    words = words[: next((i for i, w in enumerate(words) if w.startswith("#")), len(words))]
    if not words:
        return
    name, *options = words
    for option in options:
        if option != "-p1":
            message = f"{option!r} is not understood; only -p1 may follow"
            yield finding("series-line", "error", where, message, "make the patch with -p1")
    if (why := check_patch_name(name)) is not None:
        yield finding("series-unsafe-path", "error", where, why, "rename the patch")
        return
    if name in listed:
        message = f"{name} stands on line {listed[name]} too"
        yield finding("series-duplicate", "error", where, message, "remove one of the lines")
        return
    path = folder / name
    try:
        real = path.resolve(strict=True)
    except OSError as error:
        message = f"{name}: {error.strerror}"
        remedy = "add the file, or remove the line"
        yield finding("series-patch-missing", "error", where, message, remedy)
        return
    if not real.is_relative_to(folder.resolve()):
        message = f"{name} is a link that leaves the folder"
        yield finding("series-unsafe-path", "error", where, message, "copy the patch into it")
        return
    if not real.is_file():
        message = f"{name} is not a file"
        yield finding("series-patch-missing", "error", where, message, "name a patch")
        return
    listed[name] = number


def _patch(
    name: str, path: Path, listed: dict[str, int], sums: dict[str, str]
) -> Iterator[Finding]:
    if name not in listed:
        message = "the patch is not in the series, and is never applied"
        remedy = f"add it to {SERIES}, or remove it"
        yield finding("patch-not-in-series", "warning", name, message, remedy)
    try:
        digest = sha256_file(path)
        data = path.read_bytes() if path.stat().st_size <= _LARGEST_FILE else None
    except OSError as error:
        yield _unreadable(name, error)
        return
    other = sums.setdefault(digest, name)
    if other != name:
        message = f"it has the content of {other}"
        yield finding("patch-duplicate", "warning", name, message, "remove one of them")
    if data is None:
        message = "the patch is larger than 64 MiB and was not looked at"
        yield finding("patch-large", "note", name, message, "leave built files out of patches")
        return
    yield from check_patch(data, _place(name))
    try:
        mails(data)
    except EncodedDiff:
        message = "its diff is encoded (base64 or quoted-printable) and cannot be applied"
        remedy = "make it again with git format-patch"
        yield finding("patch-encoded", "error", name, message, remedy)


def _other(name: str, path: Path) -> Iterator[Finding]:
    if stray_name(name):
        message = "a leftover, or something that was built"
        yield finding("stray-file", "warning", name, message, "remove it")
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST_FILE else b""
    except OSError as error:
        yield _unreadable(name, error)
        return
    yield from check_file(name, data, _place(name))


def _unreadable(name: str, error: OSError) -> Finding:
    message = f"it cannot be read: {error.strerror}"
    return finding("file-unreadable", "error", name, message, "check its rights")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if ".git" not in inside and path.is_file() and not path.is_symlink():
            yield path


def _place(name: str) -> Place:
    return Place(lambda line: name if line is None else f"{name}:{line}")
