"""Results as evidence: what they are compared with, and what the comparison proves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import all_commands, is_card, is_deployment
from relforge.card.lint.names import PRECISION, QUANTIZED, own_name, parts
from relforge.card.lint.results import INTERVAL, ResultTable, result_tables

_SETTINGS = re.compile(
    r"\bn ?= ?\d|\d+[\d,]* (?:questions|samples|problems)|\bshots?\b|\d-shot|\bseeds?\b|greed|"
    r"temperature|top[_-]p|题数|样本|种子|贪心|温度",
    re.I,
)
_COUNT_HEADER = re.compile(r"^(?:n|#|questions?|samples?|problems?|shots?|题数|样本数)\b", re.I)
_OWN = re.compile(r"\bthis\b|\bours?\b|本|我们", re.I)
_STATED = re.compile(r"\bprecision\b|精度", re.I)
_OFFICIAL = re.compile(
    r"(?:\b(?:consisten\w*|align\w*|match\w*|equal\w*|identical|compar\w*)\b|一致|对齐)[^.]*"
    r"(?:\bofficial\b|官方)|(?:\bofficial\b|官方)[^.]*(?:\b(?:consisten\w*|align\w*|match\w*|"
    r"equal\w*|identical)\b|一致|对齐)",
    re.I,
)
_SOURCE = re.compile(r"official|reported|paper|publish|upstream|original|官方|报告|论文", re.I)
_PROMISES = re.compile(
    r"\b(?:benchmarks?|evaluation|accuracy|performance)\b|评测|评估|性能|精度", re.I
)
_FIGURE = re.compile(
    r"\d+(?:\.\d+)?\s*(?:%|percent|points?\b|tok|ms\b|s\b|req|GB|MB|x\b|times)|\d+\.\d+(?![\w.])",
    re.I,
)
_FEWEST_EQUAL = 4
"""So many tasks must agree before two columns are called the same."""


def _pair(table: ResultTable, document: Document) -> tuple[int, int] | None:
    """The columns of the reference and of the card's own result, where there are just two."""
    if len(table.columns) != 2:
        return None
    own = own_name(document)
    scores = [
        (bool(_OWN.search(header)), len(set(parts(header)) & set(own.parts if own else ())), index)
        for index, header in enumerate(table.columns)
    ]
    mine = max(scores)[2]
    return 1 - mine, mine


def _no_settings(document: Document) -> Iterator[Hit]:
    tables = result_tables(document)
    if not tables or not is_card(document):
        return
    words = document.words
    counted = any(_COUNT_HEADER.match(header) for t in tables for header in t.table.header)
    if not counted and not _SETTINGS.search(words):
        yield Hit(
            tables[0].table.line,
            "neither questions nor shots, sampling or seed are stated",
            severity=None if is_deployment(document) else "note",
        )


def _precision(document: Document) -> Iterator[Hit]:
    own = own_name(document)
    for table in result_tables(document):
        pair = _pair(table, document)
        if pair is None or own is None:
            continue
        reference, mine = (table.columns[index] for index in pair)
        precision = QUANTIZED.search(mine) or QUANTIZED.search(own.text)
        if precision and not PRECISION.search(reference) and not _explained(document):
            yield Hit(
                table.table.line,
                f"{mine} is {precision[0]}, and the precision of {reference} is not said",
            )


def _explained(document: Document) -> bool:
    return any(_STATED.search(line.text) and PRECISION.search(line.text) for line in document.prose)


def _no_interval(document: Document) -> Iterator[Hit]:
    if INTERVAL.search(document.words):
        settled = any(INTERVAL.search(line.text) for line in document.prose)
        if settled or any(t.has_intervals and _whole(t) for t in result_tables(document)):
            return
    for table in result_tables(document):
        pair = _pair(table, document)
        if pair is None:
            continue
        for row in table.rows:
            reference, mine = (row.values[index] for index in pair)
            if reference is None or mine is None or mine.spread is not None:
                continue
            more = mine.in_percent - reference.in_percent
            if more > 1e-9:
                yield Hit(
                    row.line,
                    f"{row.task}: {more:.2f} above the reference, without an interval",
                    severity=None if is_deployment(document) else "note",
                )


def _whole(table: ResultTable) -> bool:
    return any(INTERVAL.search(header) for header in table.table.header) or all(
        value is None or value.spread is not None for row in table.rows for value in row.values
    )


def _equal(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    for table in result_tables(document):
        if len(table.columns) != 2 or len(table.rows) < 4 or table.has_intervals:
            continue
        same = [
            row
            for row in table.rows
            if row.values[0] and row.values[1] and row.values[0].number == row.values[1].number
        ]
        for row in same if len(same) > 1 else ():
            yield Hit(row.line, f"{row.task}: to the digit what the reference has")


def _official(document: Document) -> Iterator[Hit]:
    tables = result_tables(document)
    headers = " ".join(header for table in tables for header in table.table.header)
    if not tables or _SOURCE.search(headers):
        return
    for line in document.prose:
        if _OFFICIAL.search(line.text):
            yield Hit(line.line, "a comparison with official results, and no column that has them")


def _no_reference(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    for table in result_tables(document):
        if len(table.columns) == 1 and _quantized(document):
            yield Hit(table.table.line, "results of quantized weights, and nothing beside them")


def _quantized(document: Document) -> bool:
    own = own_name(document)
    if own is not None and own.quantized:
        return True
    words = (w for c in all_commands(document) for w in c.argv)
    text = " ".join(words)
    return bool(re.search(r"--quantization|quant_(?:type|mode)", text)) or any(
        QUANTIZED.search(line) for line in text.split() if "/" in line
    )


def _no_result(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    covered = 0
    for index, heading in enumerate(document.headings):
        later = document.headings[index + 1 :]
        end = next((h.line for h in later if h.level <= heading.level), len(document.lines) + 1)
        if heading.level == 1 or heading.line < covered or not _PROMISES.search(heading.text):
            continue
        prose = [p.text for p in document.prose if heading.line < p.line < end]
        tables = any(heading.line < table.line < end for table in document.tables)
        chart = any(link.image and heading.line < link.line < end for link in document.links)
        if not tables and not chart and not any(_FIGURE.search(text) for text in prose):
            covered = end
            yield Hit(heading.line, f"the section {heading.text!r} has no figure")


def _absent(document: Document) -> Iterator[Hit]:
    whole = all(block.closed for block in document.blocks)
    if whole and is_deployment(document) and not result_tables(document) and _quantized(document):
        yield Hit(1, "quantized weights, and no result says what that costs")


def _copied(documents: tuple[Document, ...]) -> Iterator[Hit]:
    columns = [column for document in documents for column in _columns(document)]
    by_value: dict[float, list[_Column]] = {}
    for column in columns:
        for value in set(column.values.values()):
            by_value.setdefault(value, []).append(column)
    told: set[tuple[str, int]] = set()
    for column in columns:
        shared = Counter(id(other) for v in set(column.values.values()) for other in by_value[v])
        near = {key for key, count in shared.items() if count >= _FEWEST_EQUAL}
        for other in columns:
            if id(other) not in near or other.document is column.document:
                continue
            place = (column.document.name, column.line)
            if place not in told and _same_under_other_name(column, other):
                told.add(place)
                yield Hit(
                    column.line,
                    f"every value under {column.header} stands in {other.document.name} under "
                    f"{other.header}",
                    document=column.document,
                )


@dataclass(frozen=True, eq=False)
class _Column:
    document: Document
    line: int
    header: str
    beside: tuple[str, ...]
    values: dict[str, float]
    """By task, in percent."""


def _same_under_other_name(one: _Column, other: _Column) -> bool:
    # Columns that are swapped are another rule's.
    if parts(one.header) == parts(other.header) or set(one.beside) == set(other.beside):
        return False
    common = one.values.keys() & other.values.keys()
    return len(common) >= _FEWEST_EQUAL and all(one.values[t] == other.values[t] for t in common)


def _columns(document: Document) -> Iterator[_Column]:
    for table in result_tables(document):
        for index, header in enumerate(table.columns):
            values = {
                _task(row.task): round(value.in_percent, 2)
                for row in table.rows
                if (value := row.values[index]) is not None
            }
            if re.search(r"\d|-", header):
                yield _Column(document, table.table.line, header, table.columns, values)


def _task(cell: str) -> str:
    return "".join(parts(re.sub(r"\(.*?\)|pass@\d", "", cell.lower())))


def _swaps(documents: tuple[Document, ...]) -> Iterator[Hit]:
    before: dict[frozenset[str], list[tuple[Document, ResultTable]]] = {}
    for document in documents:
        for table in result_tables(document):
            if len(table.columns) != 2:
                continue
            known = before.setdefault(frozenset(table.columns), [])
            for other, earlier in known:
                one, two = table.columns
                mine, theirs = _values(table, 0), _values(table, 1)
                turned = mine == _by_name(earlier, two) and theirs == _by_name(earlier, one)
                if turned and mine != theirs:
                    told = f"the values under {one} and {two} are the other way round in"
                    yield Hit(table.table.line, f"{told} {other.name}", document=document)
                    yield Hit(earlier.table.line, f"{told} {document.name}", document=other)
            known.append((document, table))


def _by_name(table: ResultTable, header: str) -> list[float | None]:
    return _values(table, table.columns.index(header))


def _values(table: ResultTable, index: int) -> list[float | None]:
    cells = (row.values[index] for row in table.rows)
    return [None if value is None else value.number for value in cells]


RULES = (
    Rule(
        id="evaluation-no-settings",
        severity="warning",
        title="Results without their settings",
        why="Nobody can repeat them: shots, sampling and the number of questions decide.",
        remedy="say n, shots, temperature, seed and the tool's version, beside the table",
        check=_no_settings,
    ),
    Rule(
        id="evaluation-reference-precision",
        severity="warning",
        title="A reference of unstated precision",
        why="The difference may be the quantization's or the device's; nobody can tell.",
        remedy="name the precision of the reference in its header",
        check=_precision,
    ),
    Rule(
        id="evaluation-no-interval",
        severity="warning",
        title="Better than the reference, without an interval",
        why="A difference within the noise proves nothing, in either direction.",
        remedy="give the interval of the difference (`relforge eval compare` computes it)",
        check=_no_interval,
    ),
    Rule(
        id="evaluation-equal-results",
        severity="note",
        title="Several results equal the reference to the digit",
        why="Rarely by chance: a column may have been copied.",
        remedy="check them against the records of the run",
        check=_equal,
    ),
    Rule(
        id="evaluation-official",
        severity="warning",
        title="Compared with official results that are not shown",
        why="The reader takes an own run for the maker's figures.",
        remedy="show the official figures with their source, or say what the reference is",
        check=_official,
    ),
    Rule(
        id="evaluation-no-reference",
        severity="note",
        title="Results of quantized weights without a reference",
        why="The reader cannot see what quantization takes away.",
        remedy="add the results of the unquantized weights, measured alike",
        check=_no_reference,
    ),
    Rule(
        id="evaluation-no-result",
        severity="note",
        title="A section on results without a figure",
        why="Its heading promises a result.",
        remedy="give the figures, or call the section by what it tells to do",
        check=_no_result,
    ),
    Rule(
        id="evaluation-absent",
        severity="note",
        title="Quantized weights without any result",
        why="The reader cannot see whether they are good for anything.",
        remedy="evaluate them beside the unquantized ones",
        check=_absent,
    ),
    Rule(
        id="evaluation-copied-column",
        severity="warning",
        title="A column of results that another card has under another name",
        why="One of the two names is wrong.",
        remedy="find the run that the values come from, and name the column for it",
        together=_copied,
    ),
    Rule(
        id="evaluation-swapped-columns",
        severity="error",
        title="Two columns that another card has the other way round",
        why="One of the cards gives the reference's results as its own.",
        remedy="compare both with the records of the runs",
        together=_swaps,
    ),
)
