"""What a check finds: stable names, places, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from relforge.frozen import Frozen

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Finding(Frozen):
    """One thing that is wrong, or worth knowing.

    ``id`` names the kind and never changes. ``path`` is a file of the checkout or the patches
    folder, with ``:line`` where there is one; ``<commit>:path`` for a file of another commit.
    """

    id: str
    severity: Severity
    path: str | None
    message: str
    remedy: str


class LintCounts(Frozen):
    """How many findings there are of each severity, and how many entries were looked at."""

    error: int
    warning: int
    note: int
    entries: int


class LintReport(Frozen):
    """Everything that a check found, errors first. ``commit`` is None for a folder of patches."""

    kind: Literal["checkout", "patches"]
    path: str
    commit: str | None
    counts: LintCounts
    findings: tuple[Finding, ...]


def finding(id_: str, severity: Severity, path: str | None, message: str, remedy: str) -> Finding:
    """A finding whose texts can be printed whatever a file is called."""
    return Finding(
        id=id_,
        severity=severity,
        path=None if path is None else printable(path),
        message=printable(message),
        remedy=printable(remedy),
    )


def printable(text: str) -> str:
    """The text with line ends, control characters and undecodable bytes written out."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def shortened(words: Iterable[str], most: int = 4) -> str:
    """A list for a message: the first few, and how many more there are."""
    listed = list(words)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def report(
    kind: Literal["checkout", "patches"],
    path: str,
    commit: str | None,
    entries: int,
    findings: Iterable[Finding],
) -> LintReport:
    """The report with its findings in order, each once."""
    ordered = tuple(_in_order(dict.fromkeys(findings)))
    count = {one: sum(f.severity == one for f in ordered) for one in SEVERITIES}
    return LintReport(
        kind=kind,
        path=path,
        commit=commit,
        counts=LintCounts(entries=entries, **count),
        findings=ordered,
    )


def _in_order(findings: Iterable[Finding]) -> Iterator[Finding]:
    listed = list(findings)
    for severity in SEVERITIES:
        yield from (one for one in listed if one.severity == severity)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
