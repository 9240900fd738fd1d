"""``relforge publish``."""

from __future__ import annotations

import typer

from relforge.cli.common import (
    AllOption,
    DeviceOption,
    JsonOption,
    KeyPassphraseFileOption,
    KeyPathOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
)
from relforge.cli.delivering import (
    DryRunOption,
    FolderOption,
    RegistryOption,
    RollbackOption,
    TargetOption,
    named,
)
from relforge.cli.reporting import JunitOption, SummaryOption

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def publish(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    folder: FolderOption = None,
    target: TargetOption = None,
    registry: RegistryOption = None,
    dry_run: DryRunOption = False,
    rollback: RollbackOption = False,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes the release folder under dist/; with --target sends it there as a candidate.

    A candidate is where people do not look yet: an image without release tags, a pull request, a
    branch. relforge promote moves it on. --folder and --dry-run run no stage: they take the folder
    that is there.
    """
    if folder or dry_run:
        from relforge.cli.sending import send_all

        code = send_all(
            ("candidate",),
            devices=device, releases=release, models=model, everything=all_, given=folder,
            names=target, registry=registry, policy=None, dry_run=dry_run, rollback=rollback,
            reason="", as_json=json_, project=project, site=site, junit=junit, summary=summary,
        )  # fmt: skip
        raise typer.Exit(code)
    from relforge.cli.flow import How, run_until

    code = run_until(
        "publish",
        project=project,
        site=site,
        devices=device,
        releases=release,
        models=model,
        everything=all_,
        key_path=key_path,
        key_passphrase_file=key_passphrase_file,
        to=named(target, registry),
        steps=("candidate",),
        as_json=json_,
        how=How(junit=junit, summary=summary),
    )
    raise typer.Exit(code)
