"""Plain tables: CSV with a head line, or a YAML list of mappings. Numbers keep their decimals.

A table of figures has ``task``, ``value`` in percent and perhaps ``metric`` and ``n``; a table of
comparisons has ``task``, ``ref``, ``result`` and perhaps ``metric``, ``n`` and ``margin``.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.importing.reading import Wanted
from relforge.evaluation.statistics.datasets import same_task
from relforge.evaluation.statistics.figures import Figure, printed
from relforge.frozen import Frozen
from relforge.manifest.common import Line, PositiveInt
from relforge.manifest.loader import refuse_deep
from relforge.manifest.yamlnodes import compose


def _no_text(value: Any) -> Any:
    return None if value == "" else value


Number = Annotated[str, Field(min_length=1)]
Count = Annotated[PositiveInt | None, BeforeValidator(_no_text)]
Points = Annotated[float, Field(gt=0, le=100)]
Margin = Annotated[Points | None, BeforeValidator(_no_text)]
Metric = Annotated[Line, BeforeValidator(lambda value: value or "accuracy")]
RowT = TypeVar("RowT", bound=Frozen)


class FigureRow(Frozen):
    """A line of a table of figures."""

    task: Annotated[Line, Field(min_length=1)]
    metric: Metric = "accuracy"
    value: Number
    n: Count = None


class ComparisonRow(Frozen):
    """A line of a table of comparisons."""

    task: Annotated[Line, Field(min_length=1)]
    metric: Metric = "accuracy"
    ref: Number
    result: Number
    n: Count = None
    margin: Margin = None


def figures(text: str, path: Path, wanted: Wanted) -> tuple[Figure, ...]:
    """The wanted figures of a table. Raises RelforgeError (USAGE) with ``file:line``."""
    return tuple(
        figure_of(row.task, row.metric, row.value, row.n, where)
        for where, row in rows(text, path, FigureRow)
        if wanted(row.task)
    )


def comparisons(
    path: Path, tasks: Collection[str] = ()
) -> list[tuple[float | None, Figure, Figure]]:
    """A table of comparisons: margin, reference and result of each line; with ``tasks`` of these.

    Raises RelforgeError (USAGE) with ``file:line``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(str(path), "the table cannot be read", str(error)) from error
    return [
        (
            row.margin,
            figure_of(row.task, row.metric, row.ref, row.n, where),
            figure_of(row.task, row.metric, row.result, row.n, where),
        )
        for where, row in rows(text, path, ComparisonRow)
        if not tasks or any(same_task(row.task, one) for one in tasks)
    ]


def figure_of(task: str, metric: str, value: str, n: int | None, where: str | None) -> Figure:
    """A figure from a percentage as it was printed. Raises RelforgeError (USAGE) at *where*."""
    try:
        percent, off_by = printed(value)
    except ValueError as error:
        raise _refused(where, f"{task}: {error}", "a percentage such as 95.07") from error
    return Figure(task=task, metric=metric, percent=percent, off_by=off_by, n=n, where=where)


def rows(text: str, path: Path, model: type[RowT]) -> list[tuple[str, RowT]]:
    """``file:line`` and content of each line of a table; at least one."""
    raw = _of_csv(text, path) if path.suffix == ".csv" else _of_yaml(text, path)
    found = []
    for line, cells in raw:
        where = f"{path}:{line}"
        try:
            found.append((where, model.model_validate(cells)))
        except ValidationError as error:
            fault = error.errors()[0]
            name = ".".join(str(part) for part in fault["loc"])
            known = ", ".join(model.model_fields)
            raise _refused(where, f"{name}: {fault['msg']}", f"a row has {known}") from error
    if not found:
        raise _refused(str(path), "the table has no rows", "nothing would be compared")
    return found


def _of_csv(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    head: list[str] | None = None
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if head is None:
            head = [cell.strip() for cell in row]
            _refuse_twice(head, f"{path}:{reader.line_num}")
            continue
        if len(row) != len(head):
            raise _refused(
                f"{path}:{reader.line_num}",
                f"the line has {len(row)} values, the first has {len(head)} names",
                "each value stands below its name",
            )
        yield reader.line_num, dict(zip(head, (cell.strip() for cell in row), strict=True))


def _of_yaml(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    refuse_deep(text, path)
    try:
        root = compose(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _refused(f"{path}:{line}", "the table is no YAML", error.problem or "") from error
    if not isinstance(root, yaml.SequenceNode):
        raise _refused(f"{path}:1", "the table is no list", "write one `- {task: ..., ...}` a row")
    for node in root.value:
        line = node.start_mark.line + 1
        pairs = node.value if isinstance(node, yaml.MappingNode) else None
        if pairs is None or not all(isinstance(n, yaml.ScalarNode) for pair in pairs for n in pair):
            raise _refused(f"{path}:{line}", "a row is no plain mapping", "`- {task: ..., ...}`")
        _refuse_twice([key.value for key, _ in pairs], f"{path}:{line}")
        # As written: 92.00 has two decimals, which a float would lose.
        yield line, {key.value: value.value for key, value in pairs}


def _refuse_twice(names: list[str], where: str) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise _refused(where, f"{twice[0]!r} stands twice", "names are unique")


def _refused(where: str | None, what: str, why: str) -> RelforgeError:
    return RelforgeError(
        what, code=ExitCode.USAGE, where=where, why=why, hint="see docs/evaluation.md"
    )
