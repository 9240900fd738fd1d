"""``relforge tune``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    DeviceOption,
    JsonOption,
    KeyPassphraseFileOption,
    KeyPathOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
)
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SEVERAL = ("--suspect",)


class By(str, Enum):
    """Whose verdict is tuned to pass."""

    smoke = "smoke"
    evaluation = "evaluation"


@app.command()
def tune(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    operators: Annotated[
        Path | None,
        typer.Option(
            "--operators",
            help="The operators, one a line (default: the manifest's).",
            metavar="FILE",
        ),
    ] = None,
    suspect: Annotated[
        list[str] | None,
        typer.Option("--suspect", help="Operators to try first, all together.", metavar="NAME"),
    ] = None,
    by: Annotated[
        By | None,
        typer.Option("--by", help="Whose verdict (default: evaluation, where there is one)."),
    ] = None,
    max_evaluations: Annotated[
        int | None, typer.Option("--max-evaluations", help="Stop after so many.", min=1)
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Start none after so long.", min=0)
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence", help="Run nothing: check and show what was recorded.", metavar="FILE"
        ),
    ] = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Finds the smallest set of operators to disable so that a release that fails passes.

    Starts the image with different operators disabled until it is found, confirms it on fresh
    questions, and says what to put into the manifest. A tuning that was ended goes on.
    """
    from relforge.cli import tune_run

    if evidence is not None:
        running = (device, release, operators, suspect, by, max_evaluations, max_minutes)
        if any(option is not None for option in running):
            raise RelforgeError(
                "--evidence shows what was recorded: it runs nothing, and goes with --json alone",
                code=ExitCode.USAGE,
                hint="relforge tune --help",
            )
        tune_run.show(evidence, as_json=json_)
        return
    tune_run.run(
        tune_run.Wanted(
            devices=device,
            releases=release,
            operators=operators,
            suspects=tuple(suspect or ()),
            by=None if by is None else by.value,
            max_evaluations=max_evaluations,
            max_seconds=None if max_minutes is None else 60 * max_minutes,
            key_path=key_path,
            key_passphrase_file=key_passphrase_file,
            project=project,
            site=site,
        ),
        as_json=json_,
    )
