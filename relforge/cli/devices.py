"""``relforge devices``."""

from __future__ import annotations

import sys

import typer

from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def devices(
    json_: JsonOption = False, project: ProjectOption = None, site: SiteOption = None
) -> None:
    """Lists the known devices with their aliases and default releases."""
    found = workplace(project, site).project.devices
    if json_:
        print_json({"devices": [d.model_dump(mode="json") for d in found.values()]})
        return
    width = max(len(name) for name in found)
    for device in found.values():
        aliases = f"  (also {', '.join(device.aliases)})" if device.aliases else ""
        sys.stdout.write(
            f"{device.name:<{width}}  {device.title}, {device.vendor.name}{aliases}"
            f"  release: {device.default_release or 'none'}\n"
        )
