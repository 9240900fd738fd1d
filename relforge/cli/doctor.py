"""``relforge doctor``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relforge import hostcheck, networkcheck
from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace
from relforge.errors import ExitCode

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_GB = 10**9
_MARKS = {"ok": "ok     ", "warning": "warning", "missing": "missing", "not-run": "not-run"}
_WIDTH = 18


@app.command()
def doctor(
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Also what this device needs here.", metavar="NAME"),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Looks at this host: engine, disk, memory, tools, keys, proxy and mirrors, with remedies.

    With --device also at driver, device query, device files, container toolkit and glibc. Exits 3
    when something is missing; `not-run` is a look that could not be taken, and says why.
    """
    place = workplace(project, site)
    findings = [
        *hostcheck.engine(place.site, 8 * _GB),
        hostcheck.disk(place.home, 6 * _GB),
        hostcheck.memory(4 * _GB),
        hostcheck.bootstrap(),
        hostcheck.evaluator(),
        *networkcheck.looks(place.site),
    ]
    if place.site.identities:
        findings.append(hostcheck.identities(place.site.identities))
    else:
        findings.append(
            hostcheck.Finding(
                name="keys",
                state="not-run",
                found="the site configuration names no private key; only sealed patch sets "
                "need one",
            )
        )
    named = None
    if device is not None:
        from relforge import devicecheck

        named = place.project.device(device)
        findings += devicecheck.looks(named, place.site.engine)
    if json_:
        print_json(
            {
                "site": str(place.site_file) if place.site_file else None,
                "home": str(place.home),
                "device": named.name if named else None,
                "findings": [f.model_dump() for f in findings],
            }
        )
    else:
        sys.stdout.write(f"site configuration: {place.site_file or 'none'}\n")
        sys.stdout.write(f"home:               {place.home}\n")
        if named is not None:
            sys.stdout.write(f"device:             {named.name}, {named.title}\n")
        for finding in findings:
            sys.stdout.write(f"{_MARKS[finding.state]}  {finding.name:<{_WIDTH}} {finding.found}\n")
            if finding.remedy:
                sys.stdout.write(f"{'':9}{'':{_WIDTH}} → {finding.remedy}\n")
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(int(ExitCode.ENVIRONMENT))
