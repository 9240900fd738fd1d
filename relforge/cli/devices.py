"""``relforge devices [show]``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)


@app.callback()
def devices(
    ctx: typer.Context,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Lists the known devices with their aliases and default releases."""
    if ctx.invoked_subcommand is not None:
        return
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


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A device, by name or alias.")],
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Shows what is known of one device, from where, what is unknown, and where sources differ."""
    device = workplace(project, site).project.device(name)
    content = device.model_dump(mode="json", exclude_defaults=True)
    if json_:
        print_json({"device": content, "unknown": list(device.unknown)})
        return
    import yaml

    sys.stdout.write(
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        + yaml.safe_dump({"unknown": list(device.unknown)}, width=100)
    )
