"""``relforge coverage``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, print_json
from relforge.evaluation.coverage import load_coverage
from relforge.evaluation.coverage_rows import OperatorRow, coverage_output

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def coverage(
    evidence: Annotated[
        Path, typer.Option("--evidence", help="A file that the probe wrote.", metavar="FILE")
    ],
    json_: JsonOption = False,
) -> None:
    """Shows which operators of a model FlagGems' kernels took over, as an evidence file records it.

    The file is measured where the device is, with nothing installed but torch and FlagGems:
    python3 -m relforge.evaluation.coverage_probe --out FILE
    """
    output = coverage_output(load_coverage(evidence))
    if json_:
        print_json(output.model_dump(mode="json"))
        return
    width = max(len(row.name) for row in output.summary)
    for row in output.summary:
        sys.stdout.write(f"{row.name:<{width}}  {row.value}\n")
    sys.stdout.write("\n" + "".join(f"{line}\n" for line in _table(output.operators)))


def _table(operators: tuple[OperatorRow, ...]) -> list[str]:
    width = max(len(row.name) for row in operators)
    lines = [
        f"{'operator':<{width}} {'calls':>6} {'us':>9} {'native us':>9} {'rel. error':>10}  by"
    ]
    for row in operators:
        lines.append(
            f"{row.name:<{width}} {row.calls:>6} {_figure(row.us, '.1f'):>9} "
            f"{_figure(row.native_us, '.1f'):>9} {_figure(row.relative_error, '.1e'):>10}  "
            + row.how
            + (f"; FAILED: {row.failed}" if row.failed else "")
        )
    return lines


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
