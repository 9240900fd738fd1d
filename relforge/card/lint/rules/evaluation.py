"""Single results: values that cannot be, and ways of writing them that do not go together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.results import AVERAGED, Result, ResultTable, reachable, result_tables

_METRIC = re.compile(
    r"\(?\b(pass@\d+|acc(?:uracy)?\b\.?|em\b|exact[ _-]match|f1\b|avg@\d+|cons@\d+|maj@\d+)\)?",
    re.I,
)
_SUBSETS = (
    (
        re.compile(r"gpqa", re.I),
        re.compile(r"diamond|main|extended", re.I),
        "main, extended or diamond",
    ),
    (re.compile(r"aime", re.I), re.compile(r"\d\d"), "of which year"),
)
_HUNDRED = 100.0
_MOST_SURE = 10_000
"""Above so many questions every value with two decimals can be reached."""


def _impossible(document: Document) -> Iterator[Hit]:
    if AVERAGED.search(document.words):
        return
    for _, row, header, index in _cells(document):
        value = row.values[index]
        if value is None or value.of or row.questions is None or row.questions > _MOST_SURE:
            continue
        percent, decimals = value.number, value.decimals
        if not value.percent and percent <= 1 and decimals > 1:
            percent, decimals = 100 * percent, decimals - 2
        if percent <= 100 and not reachable(percent, decimals, row.questions):
            yield Hit(
                row.line,
                f"{value.text} under {header!r}: no number of {row.questions} questions gives it",
                # Without the card's own n, it may be the mean of several answers to each.
                severity="error" if row.stated else "note",
            )


def _cells(document: Document) -> Iterator[tuple[ResultTable, Result, str, int]]:
    for table in result_tables(document):
        for row in table.rows:
            for index, header in enumerate(table.columns):
                yield table, row, header, index


def _spread(document: Document) -> Iterator[Hit]:
    for table in result_tables(document):
        cells = [value for row in table.rows for value in row.values if value is not None]
        with_spread = sum(value.spread is not None for value in cells)
        for row in table.rows:
            values = [value for value in row.values if value is not None]
            spreads = [value for value in values if value.spread is not None]
            if spreads and len(spreads) < len(values) and with_spread * 2 < len(cells):
                yield Hit(row.line, f"{row.task}: {spreads[0].text} has a spread, the others none")


def _spread_impossible(document: Document) -> Iterator[Hit]:
    if AVERAGED.search(document.words):
        return
    for _, row, _, index in _cells(document):
        value = row.values[index]
        if value is None or not value.spread or not row.questions:
            continue
        step = 100 / row.questions
        if value.spread < step - 0.01 and value.number > 1:
            yield Hit(
                row.line,
                f"±{value.spread:g} is less than one question of {row.questions} ({step:.2f})",
            )


def _decimals(document: Document) -> Iterator[Hit]:
    found: dict[int, list[str]] = {}
    for table in result_tables(document):
        for index in range(len(table.columns)):
            column = [(r, v) for r in table.rows if (v := r.values[index]) and not v.of]
            usual = Counter(value.decimals for _, value in column).most_common(1)
            for row, value in column:
                if value.decimals != usual[0][0] and usual[0][1] * 2 > len(column):
                    found.setdefault(row.line, []).append(value.text)
    for line, texts in sorted(found.items()):
        yield Hit(line, f"{', '.join(texts)}: not as many decimals as the values above and below")


def _units(document: Document) -> Iterator[Hit]:
    found: dict[int, str] = {}
    for table in result_tables(document):
        for index in range(len(table.columns)):
            column = [(r.line, v) for r in table.rows if (v := r.values[index])]
            column = [(line, v) for line, v in column if v.of or v.number <= _HUNDRED]
            kinds = {line: _unit(v.of, v.number, v.decimals, v.percent) for line, v in column}
            usual = Counter(kinds.values()).most_common(1)
            for line, value in column:
                if usual[0][1] * 2 > len(column) and kinds[line] != usual[0][0]:
                    found.setdefault(
                        line,
                        f"{value.text} is {kinds[line]}, the others of its column {usual[0][0]}",
                    )
    for line, message in sorted(found.items()):
        yield Hit(line, message)


def _unit(of: int | None, number: float, decimals: int, percent: bool) -> str:
    if of:
        return "a count of a total"
    return "a fraction of 1" if number <= 1 and decimals and not percent else "in percent"


def _metric_style(document: Document) -> Iterator[Hit]:
    for table in result_tables(document):
        styles: dict[str, list[tuple[int, str]]] = {}
        for row in table.rows:
            match = _METRIC.search(row.task)
            if match:
                styles.setdefault(match[1].lower().rstrip("."), []).append((row.line, match[0]))
        for metric, used in styles.items():
            usual = Counter(style for _, style in used).most_common(1)[0][0]
            for line, style in used:
                if style != usual:
                    yield Hit(line, f"{style} here, {usual} in other rows: one metric, {metric}?")


def _metric_missing(document: Document) -> Iterator[Hit]:
    for table in result_tables(document):
        if any(re.search(r"metric|指标", header, re.I) for header in table.table.header[1:]):
            continue
        without = [row for row in table.rows if not re.search(r"[(@\uff08]", row.task)]
        with_one = [row for row in table.rows if _METRIC.search(row.task)]
        if len(with_one) >= 2 and len(with_one) > len(without):
            for row in without:
                if not _METRIC.search(row.task):
                    yield Hit(row.line, f"{row.task} has no metric, the other rows have one")


def _empty_column(document: Document) -> Iterator[Hit]:
    for results in result_tables(document):
        table = results.table
        for index, header in enumerate(table.header):
            cells = [cell.strip() for cell in table.column(index)]
            empty = all(re.fullmatch(r"[-\u2013\u2014/]?|n/?a", cell, re.I) for cell in cells)
            if header and len(cells) > 1 and empty:
                yield Hit(table.line, f"the column {header!r} holds no value")


def _subset(document: Document) -> Iterator[Hit]:
    for table in result_tables(document):
        for row in table.rows:
            for task, subset, which in _SUBSETS:
                if task.search(row.task) and not subset.search(" ".join(row.cells[:3])):
                    yield Hit(row.line, f"{row.task}: {which}?")


RULES = (
    Rule(
        id="evaluation-impossible-value",
        severity="warning",
        title="A result that no number of right answers gives",
        why="It is a typing error, a mean over several runs, or another benchmark's.",
        remedy="correct it; or say how many questions and how many samples of each it is from",
        check=_impossible,
    ),
    Rule(
        id="evaluation-spread",
        severity="warning",
        title="A spread on one side only",
        why="A difference cannot be judged when only one of two results has a spread.",
        remedy="give every result its spread, and say what it is: standard error or interval",
        check=_spread,
    ),
    Rule(
        id="evaluation-spread-impossible",
        severity="warning",
        title="A spread smaller than one question",
        why="One answer more or less changes the result by more: the spread means something else.",
        remedy="give the standard error or the interval, and say over how many runs",
        check=_spread_impossible,
    ),
    Rule(
        id="evaluation-decimals",
        severity="note",
        title="Mixed decimals in a column",
        why="Readers cannot tell whether a value was rounded or is exact.",
        remedy="write every value of the column with the same number of decimals",
        check=_decimals,
    ),
    Rule(
        id="evaluation-units",
        severity="warning",
        title="Mixed units in a column",
        why="Values that stand below each other are compared, and here cannot be.",
        remedy="write all of them in percent, and the number of questions in a column of its own",
        check=_units,
    ),
    Rule(
        id="evaluation-metric-style",
        severity="note",
        title="One metric in several styles",
        why="Readers cannot tell whether two metrics are meant.",
        remedy="write the metric alike in all rows, or in a column of its own",
        check=_metric_style,
    ),
    Rule(
        id="evaluation-metric-missing",
        severity="note",
        title="A row without a metric",
        why="Most benchmarks can be scored in several ways.",
        remedy="say the metric of every row",
        check=_metric_missing,
    ),
    Rule(
        id="evaluation-empty-column",
        severity="note",
        title="A column without a value",
        why="It promises a fact that the card does not have.",
        remedy="fill it in, or leave it out",
        check=_empty_column,
    ),
    Rule(
        id="evaluation-subset",
        severity="note",
        title="A benchmark of which a subset is not named",
        why="Its subsets differ by many points, so the result can be compared with nothing.",
        remedy="name the subset and the number of its questions",
        check=_subset,
    ),
)
