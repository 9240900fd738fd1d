"""``relforge withdraw``."""

from __future__ import annotations

from typing import Annotated

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
from relforge.cli.delivering import DryRunOption, FolderOption, RegistryOption, TargetOption

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def withdraw(
    reason: Annotated[str, typer.Option("--reason", help="What readers are told.", metavar="TEXT")],
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    folder: FolderOption = None,
    target: TargetOption = None,
    registry: RegistryOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Takes a release back: removes its tags, and tells readers of hubs and pages why.

    Without --target it is taken back from every place that this host sent it to. One place that
    refuses does not stop the others.
    """
    from relforge.cli.sending import send_all
    from relforge.errors import ExitCode, RelforgeError

    if not reason.strip() or "\n" in reason:
        raise RelforgeError(
            "a withdrawal has a reason of one line",
            code=ExitCode.USAGE,
            hint="--reason 'wrong answers with tensor parallelism 8'",
        )
    code = send_all(
        ("withdraw",),
        devices=device, releases=release, models=model, everything=all_, given=folder,
        names=target, registry=registry, policy=None, dry_run=dry_run, rollback=False,
        reason=reason.strip(), as_json=json_, project=project, site=site,
    )  # fmt: skip
    raise typer.Exit(code)
