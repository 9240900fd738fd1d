"""Step summaries: Markdown that a CI shows on the page of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relforge.ci.matrix import CiMatrix
from relforge.ci.report import Case, Report, State, Suite
from relforge.ui.text import duration

MOST_BYTES = 900_000
"""GitHub takes 1 MiB for one step, and nothing of a longer one."""
_MOST_ROWS = 500
_MARKS: dict[State, str] = {"passed": "✅", "failed": "❌", "error": "❌", "skipped": "⚪"}


def summary(report: Report, clean: Callable[[str], str] = lambda text: text) -> str:
    """The report with what went wrong first; ``clean`` is applied to every text of it."""

    def text(value: str) -> str:
        return _escaped(clean(value))

    bad = [suite for suite in report.suites if suite.bad]
    of = f"{len(bad)} of {len(report.suites)} failed" if bad else _all_well(report)
    rows = [f"### {text(report.title)}: {of}", ""]
    ordered = [*bad, *(suite for suite in report.suites if not suite.bad)]
    if len(ordered) > 1:
        rows += _table(
            ("", "", "time", ""),
            (
                ("❌" if suite.bad else "✅", text(suite.name), _time(suite), _worst(suite, text))
                for suite in ordered
            ),
        )
    for suite in ordered:
        rows += _one(suite, text, alone=len(ordered) == 1)
    return _cut("\n".join(rows) + "\n")


def matrix_summary(matrix: CiMatrix, clean: Callable[[str], str] = lambda text: text) -> str:
    """Which jobs follow, and what none is for."""

    def text(value: str) -> str:
        return _escaped(clean(value))

    rows = [f"### {len(matrix.include)} jobs", ""]
    rows += _table(
        ("job", "releases", "runs", "on"),
        (
            (text(one.name), text(", ".join(one.releases)), one.verb, ", ".join(one.build_runner))
            for one in matrix.include
        ),
    )
    if matrix.left_out:
        rows += ["No job, because something of it is open:", ""]
        told = ((text(one.release), text(one.reason)) for one in matrix.left_out)
        rows += _table(("release", "open"), told)
    return _cut("\n".join(rows) + "\n")


def _all_well(report: Report) -> str:
    cases = [case for suite in report.suites for case in suite.cases]
    skipped = sum(case.state == "skipped" for case in cases)
    return f"{len(cases) - skipped} passed, {skipped} skipped"


def _worst(suite: Suite, text: Callable[[str], str]) -> str:
    bad = suite.bad
    return text(f"{bad[0].name}: {bad[0].why}") if bad else text(suite.facts.get("image", ""))


def _time(suite: Suite) -> str:
    return duration(suite.seconds) if suite.seconds else ""


def _one(suite: Suite, text: Callable[[str], str], *, alone: bool) -> list[str]:
    bad = suite.bad
    # Of a long list, such as everything that was checked, what went well says nothing by its name.
    long = len(suite.cases) > 40
    shown = [*bad, *(one for one in suite.cases if one.state == "skipped")] if long else suite.cases
    rows = _table(("", "", "time", ""), (_row(one, text) for one in shown)) if shown else []
    for one in bad:
        if one.details:
            rows += ["", f"**{text(one.name)}**", "", *_block(text(one.details)), ""]
    if alone:
        image = f": {text(suite.facts['image'])}" if "image" in suite.facts else ""
        return [f"{text(suite.name)}{image}", "", *rows]
    opened = " open" if bad else ""
    return [f"<details{opened}><summary>{text(suite.name)}</summary>", "", *rows, "</details>", ""]


def _row(one: Case, text: Callable[[str], str]) -> tuple[str, ...]:
    took = duration(one.seconds) if one.seconds else ""
    return _MARKS[one.state], text(one.name), took, text(one.why)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    found = [f"| {' | '.join(row)} |" for row in rows]
    more = len(found) - _MOST_ROWS
    if more > 0:
        found = [*found[:_MOST_ROWS], f"| | and {more} more |" + " |" * (len(head) - 2)]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *found, ""]


def _block(text: str) -> list[str]:
    return ["<pre>", *text.split("<br>"), "</pre>"]


def _escaped(text: str) -> str:
    """In a cell of a table, and no markup of its own."""
    for sign, written in (
        ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("`", "&#96;"),
        ("*", "&#42;"), ("_", "&#95;"), ("[", "&#91;"), ("@", "&#64;"), ("\r", ""),
        ("\n", "<br>"),
    ):  # fmt: skip
        text = text.replace(sign, written)
    return text


def _cut(text: str) -> str:
    data = text.encode(errors="replace")
    if len(data) <= MOST_BYTES:
        return data.decode()
    kept = data[:MOST_BYTES].decode(errors="ignore").rpartition("\n")[0]
    return f"{kept}\n\nThe rest is in the job's log.\n"
