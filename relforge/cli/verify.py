"""``relforge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, print_json, to_stderr
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A published release's folder.", metavar="FOLDER")],
    json_: JsonOption = False,
) -> None:
    """Checks image, evidence, record and card of a published folder against one another.

    It reads the folder alone, offline; exit 7 when something is not what was published. Nothing is
    signed yet: who can write to the folder can make all of it anew.
    """
    from relforge.publishing.verify import verify_folder

    if not folder.is_dir():
        raise RelforgeError(
            "there is no such folder to verify",
            code=ExitCode.USAGE,
            where=str(folder),
            hint="name the folder that has image/ and release.json in it, such as dist/RELEASE",
        )
    report = verify_folder(folder)
    if json_:
        print_json(report.model_dump(mode="json"))
    else:
        for check in report.checks:
            print(f"{check.verdict:<7}  {check.check:<8}  {check.reason}")  # noqa: T201
        to_stderr(f"{folder}: {report.verdict}")
    raise typer.Exit(0 if report.verdict == "pass" else int(ExitCode.PUBLISH))
