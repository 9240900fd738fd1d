"""``relforge check``."""

from __future__ import annotations

import sys

import typer

from relforge.checking import check_project
from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace
from relforge.cli.reporting import JunitOption, SummaryOption, telling
from relforge.errors import ExitCode

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def check(
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Validates every manifest, lock and template of the project; exits 2 when one is wrong.

    Rendered Dockerfiles are looked at by hadolint and by BuildKit's own check; where these cannot
    be had, a line says `not-run` and why.
    """
    with telling("relforge check", junit, summary) as told:
        place = workplace(project, site)
        told.at(place)
        report = check_project(place.project, place.site)
        if told.wanted:
            from relforge.ci.report import of_check

            told.suites.append(of_check(report))
    if json_:
        print_json(report.model_dump(mode="json"))
    else:
        for fault in report.faults:
            sys.stdout.write(f"{fault.where or fault.subject}: {fault.message}\n")
            if fault.hint:
                sys.stdout.write(f"  next: {fault.hint}\n")
        for one in report.open:
            sys.stdout.write(f"open: {one.where or one.subject}: {one.what}\n")
            sys.stdout.write(f"  next: {one.remedy}\n")
        for look in report.not_run:
            sys.stdout.write(f"not-run: {look.look}: {look.reason}\n")
            if look.remedy:
                sys.stdout.write(f"  next: {look.remedy}\n")
        sys.stdout.write(f"{len(report.checked)} manifests checked, {len(report.faults)} faults")
        sys.stdout.write(f", {len(report.open)} open" if report.open else "")
        sys.stdout.write(f", {len(report.not_run)} looks not taken\n" if report.not_run else "\n")
    if report.faults:
        raise typer.Exit(int(ExitCode.USAGE))
