"""``relforge check``."""

from __future__ import annotations

import sys

import typer

from relforge.checking import check_project
from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace
from relforge.errors import ExitCode

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def check(
    json_: JsonOption = False, project: ProjectOption = None, site: SiteOption = None
) -> None:
    """Validates every manifest, lock and template of the project; exits 2 when one is wrong."""
    place = workplace(project, site)
    report = check_project(place.project, place.site)
    if json_:
        print_json(report.model_dump(mode="json"))
    else:
        for fault in report.faults:
            sys.stdout.write(f"{fault.where or fault.subject}: {fault.message}\n")
            if fault.hint:
                sys.stdout.write(f"  next: {fault.hint}\n")
        sys.stdout.write(f"{len(report.checked)} manifests checked, {len(report.faults)} faults\n")
    if report.faults:
        raise typer.Exit(int(ExitCode.USAGE))
