"""AISBench: ``summary/summary_*.csv`` (ais_bench/benchmark/summarizers/default.py).

One line a dataset: ``dataset,version,metric,mode``, perhaps ``total_count``, then a column for each
model with a percentage of two decimals, behind it the counts where the dataset tells them:
``92.50 (370/400)``. ``-`` stands where a run has no result. ``version`` is a hash of the prompt.
OpenCompass, from which AISBench comes, writes the same without counts.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.importing.reading import Wanted
from relforge.evaluation.statistics.figures import Figure, printed
from relforge.manifest.reference import AskedWith

_HEAD = ["dataset", "version", "metric", "mode"]
_COUNTS = "total_count"
_VALUE = re.compile(r"(?P<percent>-?[0-9.]+)(?: \((?P<right>\d+)/(?P<asked>\d+)\))?")


def is_summary(text: str) -> bool:
    """Whether a CSV file is such a summary."""
    return text.startswith(",".join(_HEAD) + ",")


def figures(text: str, path: Path, wanted: Wanted, column: str | None) -> tuple[Figure, ...]:
    """The wanted figures of one model.

    Raises RelforgeError (USAGE) with ``file:line`` for a task without a result, counts that do not
    give the percentage, and when ``column`` does not say which of several models is meant.
    """
    rows = list(csv.reader(text.splitlines()))
    header = rows[0]
    models = [name for name in header[len(_HEAD) :] if name != _COUNTS]
    if column is None and len(models) == 1:
        column = models[0]
    if column not in models:
        raise RelforgeError(
            "the summary has several models" if column is None else f"no model is named {column}",
            code=ExitCode.USAGE,
            where=f"{path}:1",
            why=f"there are {', '.join(models)}",
            hint="say which: --column NAME",
        )
    found = []
    for line, row in enumerate(rows[1:], 2):
        where = f"{path}:{line}"
        if len(row) != len(header):
            raise _refused(where, f"the line has {len(row)} values, the first {len(header)}")
        cells = dict(zip(header, row, strict=True))
        if wanted(cells["dataset"]):
            found.append(_figure(cells, cells[column], where))
    return tuple(found)


def _figure(cells: dict[str, str], value: str, where: str) -> Figure:
    task, parts = cells["dataset"], _VALUE.fullmatch(value)
    if parts is None:
        raise _refused(where, f"{task} has no result: {value!r}")
    try:
        percent, off_by = printed(parts["percent"])
    except ValueError as error:
        raise _refused(where, f"{task}: {error}") from error
    n = None
    if cells.get(_COUNTS, "/").isdigit():
        n = int(cells[_COUNTS]) or None
    if parts["asked"] is not None:
        right, n = int(parts["right"]), int(parts["asked"])
        if n < max(right, 1) or abs(100 * right / n - float(percent)) > float(off_by) + 1e-9:
            raise _refused(where, f"{task}: {right} of {n} are not {percent} %")
    return Figure(
        task=task,
        metric=cells["metric"],
        percent=percent,
        off_by=off_by,
        n=n,
        settings=AskedWith(
            prompt_hash=None
            if not re.fullmatch(r"[0-9a-f]+", cells["version"])
            else f"aisbench:{cells['version']}"
        ),
        where=where,
    )


def _refused(where: str, what: str) -> RelforgeError:
    return RelforgeError(
        what,
        code=ExitCode.USAGE,
        where=where,
        hint="run the evaluation again to its end, or leave the task out with --task",
    )
