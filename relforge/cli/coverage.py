"""``relforge coverage``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    AllOption,
    DeviceOption,
    JsonOption,
    KeyPassphraseFileOption,
    KeyPathOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    print_json,
)
from relforge.cli.flow import How, run_until
from relforge.cli.reporting import JunitOption, SummaryOption
from relforge.coverage.evidence import load_coverage
from relforge.coverage.rows import OperatorRow, coverage_output
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def coverage(
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", help="Runs nothing, and shows this file.", metavar="FILE"),
    ] = None,
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Counts the operators that a model's forward pass dispatches in the built image, and whose
    kernels run; builds first what is missing.

    With --evidence it shows a measurement that is there: of a release, or of
    python3 -m relforge.coverage.probe, which runs where no container engine is.
    """
    if evidence is not None:
        if device or release or model or all_ or key_path or key_passphrase_file:
            raise RelforgeError(
                "--evidence shows a file that is there, and runs no release",
                code=ExitCode.USAGE,
                why="it was given together with options that choose or open releases",
                hint=f"relforge coverage --evidence {evidence}",
            )
        _show(evidence, as_json=json_)
        return
    code = run_until(
        "coverage",
        project=project,
        site=site,
        devices=device,
        releases=release,
        models=model,
        everything=all_,
        key_path=key_path,
        key_passphrase_file=key_passphrase_file,
        as_json=json_,
        how=How(junit=junit, summary=summary),
    )
    raise typer.Exit(code)


def _show(evidence: Path, *, as_json: bool) -> None:
    output = coverage_output(load_coverage(evidence))
    if as_json:
        print_json(output.model_dump(mode="json"))
        return
    width = max(len(row.name) for row in output.summary)
    for row in output.summary:
        sys.stdout.write(f"{row.name:<{width}}  {row.value}\n")
    sys.stdout.write("\n" + "".join(f"{line}\n" for line in _table(output.operators)))


def _table(operators: tuple[OperatorRow, ...]) -> list[str]:
    width = max(len(row.name) for row in operators)
    lines = [
        f"{'operator':<{width}} {'calls':>6} {'us':>9} {'native us':>9} "
        f"{'abs. error':>10} {'rel. error':>10}  by"
    ]
    for row in operators:
        lines.append(
            f"{row.name:<{width}} {row.calls:>6} {_figure(row.us, '.1f'):>9} "
            f"{_figure(row.native_us, '.1f'):>9} "
            f"{_figure(row.max_abs_error, '.1e'):>10} {_figure(row.relative_error, '.1e'):>10}  "
            + row.how
            + (f"; FAILED: {row.failed}" if row.failed else "")
        )
    return lines


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
