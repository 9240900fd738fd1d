"""``relforge eval [compare]``."""

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
from relforge.cli.eval_compare import compare
from relforge.cli.flow import How, run_until
from relforge.cli.reporting import JunitOption, SummaryOption

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)
app.command()(compare)


@app.callback()
def evaluate(
    ctx: typer.Context,
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Evaluates the served image against the reference; builds first what is missing.

    With `compare` it runs nothing, and compares results that are there.
    """
    if ctx.invoked_subcommand is not None:
        return
    code = run_until(
        "evaluate",
        project=project,
        site=site,
        devices=device,
        releases=release,
        models=model,
        everything=all_,
        key_path=key_path,
        key_passphrase_file=key_passphrase_file,
        as_json=json_,
        how=How(junit=junit, summary=summary),
    )
    raise typer.Exit(code)
