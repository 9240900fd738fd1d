"""``relforge card``, and what is done with cards."""

from __future__ import annotations

import typer

from relforge.cli.card_lint import lint
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
from relforge.cli.flow import run_until

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)
app.command()(lint)


@app.callback()
def card(
    ctx: typer.Context,
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes the model card from recorded evidence."""
    if ctx.invoked_subcommand is not None:
        return
    code = run_until(
        "card",
        project=project,
        site=site,
        devices=device,
        releases=release,
        models=model,
        everything=all_,
        key_path=key_path,
        key_passphrase_file=key_passphrase_file,
        registry=None,
        as_json=json_,
    )
    raise typer.Exit(code)
