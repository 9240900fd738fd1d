"""``relforge promote``."""

from __future__ import annotations

import typer

from relforge.cli.common import (
    AllOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
)
from relforge.cli.delivering import (
    DryRunOption,
    FolderOption,
    PolicyOption,
    PublishedOption,
    RegistryOption,
    RollbackOption,
    TargetOption,
)
from relforge.cli.reporting import JunitOption, SummaryOption

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def promote(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    folder: FolderOption = None,
    target: TargetOption = None,
    registry: RegistryOption = None,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    rollback: RollbackOption = False,
    published: PublishedOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Moves a published release to where people look: release tags, hubs' main branches, pages.

    The folder is verified against the policy first, and the very digest that passed is what gets
    the tags. What a target lacks of the candidate is sent before. --published names no releases:
    they are those that relforge publish made, and another image in their place is refused.
    """
    from relforge.cli.sending import send_all

    code = send_all(
        ("candidate", "promote"),
        devices=device, releases=release, models=model, everything=all_, given=folder,
        names=target, registry=registry, policy=policy, dry_run=dry_run, rollback=rollback,
        reason="", as_json=json_, project=project, site=site, published=published, junit=junit,
        summary=summary,
    )  # fmt: skip
    raise typer.Exit(code)
