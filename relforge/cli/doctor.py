"""``relforge doctor``."""

from __future__ import annotations

import sys

import typer

from relforge import hostcheck
from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace
from relforge.errors import ExitCode

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_GB = 10**9
_MARKS = {"ok": "ok     ", "warning": "warning", "missing": "missing"}


@app.command()
def doctor(
    json_: JsonOption = False, project: ProjectOption = None, site: SiteOption = None
) -> None:
    """Looks at this host: engine, disk, memory, tools and keys, with a remedy for each fault.

    Exits 3 when something that releases need is missing.
    """
    place = workplace(project, site)
    findings = [
        *hostcheck.engine(place.site, 8 * _GB),
        hostcheck.disk(place.home, 6 * _GB),
        hostcheck.memory(4 * _GB),
        hostcheck.bootstrap(),
        hostcheck.evaluator(),
    ]
    if place.site.identities:
        findings.append(hostcheck.identities(place.site.identities))
    if json_:
        print_json(
            {
                "site": str(place.site_file) if place.site_file else None,
                "home": str(place.home),
                "findings": [f.model_dump() for f in findings],
            }
        )
    else:
        sys.stdout.write(f"site configuration: {place.site_file or 'none'}\n")
        sys.stdout.write(f"home:               {place.home}\n")
        for finding in findings:
            sys.stdout.write(f"{_MARKS[finding.state]}  {finding.name:<12} {finding.found}\n")
            if finding.remedy:
                sys.stdout.write(f"{'':9}{'':12} → {finding.remedy}\n")
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(int(ExitCode.ENVIRONMENT))
