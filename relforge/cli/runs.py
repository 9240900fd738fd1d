"""``relforge runs``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.runs import Run, list_runs, load_run, log_path
from relforge.ui.text import duration

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def runs(
    action: Annotated[str, typer.Argument(help="list or show", metavar="[list|show]")] = "list",
    run: Annotated[str | None, typer.Argument(help="A run id, or its beginning.")] = None,
    limit: Annotated[int, typer.Option(help="How many to list.", min=1)] = 20,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Lists earlier runs, newest first, or shows one with its logs.

    A run whose process is gone without a word is listed as killed.
    """
    home = workplace(project, site).home
    if action == "list":
        found = [r for r, _ in zip(list_runs(home), range(limit), strict=False)]
        if json_:
            print_json({"runs": [r.model_dump(mode="json") for r in found]})
            return
        for entry in found:
            sys.stdout.write(f"{entry.id}  {entry.state:<12}{_took(entry):>12}  {entry.title}\n")
        return
    if action != "show" or run is None:
        raise RelforgeError(
            "runs show: which run?" if action == "show" else f"runs: unknown action {action!r}",
            code=ExitCode.USAGE,
            hint="relforge runs list, or relforge runs show RUN",
        )
    shown = load_run(home, run)
    folder = home / "runs" / shown.id
    if json_:
        print_json({**shown.model_dump(mode="json"), "folder": str(folder)})
        return
    sys.stdout.write(f"{shown.id}  {shown.state}  {_took(shown)}\n{shown.command}\n{folder}\n")
    for release in shown.releases:
        if len(shown.releases) > 1:
            sys.stdout.write(f"{release.release}  {release.state}\n")
        for stage in release.stages:
            log = log_path(folder, release.release, stage.name)
            sys.stdout.write(
                f"  {stage.name:<10} {stage.status:<8}{duration(stage.seconds):>12}  {stage.detail}"
                + (f"\n{'':14}{log}" if log.exists() else "")
                + "\n"
            )
    if shown.error:
        sys.stdout.write(f"{shown.error}\n")


def _took(run: Run) -> str:
    return duration((run.ended_s or time.time()) - run.started_s)
