"""Tables of benchmark results: tasks in rows, models or images in columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relforge.card.lint.document import Document, Table
from relforge.card.lint.memo import once

_TASKS: tuple[tuple[str, int | None], ...] = (
    (r"aime[ _-]?(?:20)?2[4-6]", 30),
    (r"gpqa[ _(-]*diamond", 198),
    (r"gpqa", None),
    (r"math[ _-]?500", 500),
    (r"gsm[ _-]?8k", 1319),
    (r"mmlu[ _-]?pro", 12032),
    (r"mmlu[ _-]?redux", None),
    (r"c?mmlu", None),
    (r"c[ _-]?eval", 1346),
    (r"human[ _-]?eval(?![+ _-]?(?:plus|\+))", 164),
    (r"human[ _-]?eval", None),
    (r"arc[ _-]?(?:c\b|challenge)", 1172),
    (r"arc[ _-]?(?:e\b|easy)", 2376),
    (r"hella[ _-]?swag", 10042),
    (r"wino[ _-]?grande", 1267),
    (r"if[ _-]?eval", None),
    (r"(?:mbpp|bbh|boolq|piqa|truthfulqa|simpleqa|drop|aime|livecodebench|triviaqa|musr)", None),
)
"""Public benchmarks, and how many questions the split has that is usually reported (their dataset
cards on Hugging Face; C-Eval: validation). None where several splits or scores are in use."""
_TASK = [(re.compile(rf"(?<![a-z]){pattern}", re.I), n) for pattern, n in _TASKS]
_VALUE = re.compile(
    r"^\s*[*_~]*\s*(?P<number>\d+(?:\.(?P<decimals>\d+))?)\s*(?P<percent>%?)"
    r"(?:\s*/\s*(?P<of>\d+))?\s*(?P<more>.*?)[*_~\s]*$"
)
_SPREAD = re.compile(r"\u00c2?\u00b1\s*(\d+(?:\.\d+)?)|\+/-\s*(\d+(?:\.\d+)?)")
_NO_VALUES = re.compile(
    r"^(?:n|#|size|questions?|samples?|problems?|shots?|few-?shot|version|metrics?|verdict|mode|"
    r"split|seeds?|year|difference|delta|\u0394|题数|样本数|数量)\b|interval|confidence|\bCI\b|"
    r"std|error|margin|diff|points|置信|区间|差值|shot",
    re.I,
)
_COUNTS = re.compile(r"^\s*(?:n|#|questions?|samples?|problems?|size|题数|样本数)\s*$", re.I)
INTERVAL = re.compile(
    r"interval|confidence|\bCI\b|stderr|standard (?:error|deviation)|margin|\u00b1|置信|标准误|"
    r"误差|区间",
    re.I,
)
AVERAGED = re.compile(
    r"avg@|average|mean of|\bruns\b|repeat|samples per|rollouts|平均|cons@|maj@", re.I
)
"""Words that say a score is a mean over several answers to each question."""


@dataclass(frozen=True)
class Value:
    """One result. ``spread`` is what follows a plus-minus sign; ``of`` the n of ``k/n``."""

    text: str
    number: float
    decimals: int
    percent: bool
    of: int | None
    spread: float | None

    @property
    def in_percent(self) -> float:
        """The result in percent, whichever way it is written."""
        if self.of:
            return 100 * self.number / self.of
        return self.number


@dataclass(frozen=True)
class Result:
    """One row: a task, and a value per column (None where a cell has none)."""

    task: str
    questions: int | None
    stated: bool
    """Whether the card itself states the number of questions."""
    values: tuple[Value | None, ...]
    cells: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class ResultTable:
    """``columns`` are the headers of the columns with values; the rows' values have their order."""

    table: Table
    columns: tuple[str, ...]
    rows: tuple[Result, ...]

    @property
    def has_intervals(self) -> bool:
        """Whether a column or any cell gives an uncertainty."""
        return any(INTERVAL.search(header) for header in self.table.header) or any(
            value is not None and value.spread is not None for r in self.rows for value in r.values
        )


def known_task(cell: str) -> tuple[bool, int | None]:
    """Whether a cell names a public benchmark, and how many questions that has."""
    for pattern, n in _TASK:
        if pattern.search(cell):
            return True, n
    return False, None


def value(cell: str) -> Value | None:
    """Reads ``95.07``, ``95.07 %``, ``23/30`` or ``76.67 (±0.67)``; None for anything else."""
    match = _VALUE.match(cell)
    if match is None:
        return None
    spread = _SPREAD.search(match["more"])
    if match["more"] and spread is None and not re.fullmatch(r"\([^)]*\)", match["more"]):
        return None
    return Value(
        text=cell.strip(),
        number=float(match["number"]),
        decimals=len(match["decimals"] or ""),
        percent=bool(match["percent"]),
        of=int(match["of"]) if match["of"] and int(match["of"]) else None,
        spread=float(spread[1] or spread[2]) if spread else None,
    )


def reachable(percent: float, decimals: int, n: int) -> bool:
    """Whether some k of n questions is *percent*, rounded or cut to that many decimals."""
    step = 10.0**-decimals
    k = percent * n / 100
    return any(
        abs(100 * near / n - percent) <= step / 2 + 1e-9 or 0 <= 100 * near / n - percent < step
        for near in (int(k) - 1, int(k), int(k) + 1, int(k) + 2)
        if 0 <= near <= n
    )


@once
def result_tables(document: Document) -> tuple[ResultTable, ...]:
    """All tables with public benchmarks in their rows and numbers beside them."""
    return tuple(t for table in document.tables if (t := _read(table)) is not None)


def _read(table: Table) -> ResultTable | None:
    names = [
        (row, next((c for c in row.cells[:2] if known_task(c)[0]), None)) for row in table.rows
    ]
    tasks = [(row, name) for row, name in names if name is not None]
    if not tasks or len(tasks) * 2 < len(table.rows):
        return None
    columns = [
        index
        for index in range(1, len(table.header))
        if not _NO_VALUES.search(table.header[index].strip())
        and sum(value(cell) is not None for cell in table.column(index)) * 2 > len(table.rows)
    ]
    if not columns:
        return None
    counts = next((i for i, header in enumerate(table.header) if _COUNTS.match(header)), None)
    rows = []
    for row, name in tasks:
        cells = (*row.cells, *[""] * len(table.header))
        stated = re.sub(r"[,\s]", "", cells[counts]) if counts is not None else ""
        known = int(stated) if stated.isdigit() and int(stated) else known_task(name)[1]
        rows.append(
            Result(
                task=name,
                questions=known,
                stated=stated.isdigit(),
                values=tuple(value(cells[index]) for index in columns),
                cells=row.cells,
                line=row.line,
            )
        )
    return ResultTable(table, tuple(table.header[i] for i in columns), tuple(rows))
