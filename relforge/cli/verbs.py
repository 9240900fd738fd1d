"""Makes the verbs that run the pipeline up to a stage; they differ in that stage alone."""

from __future__ import annotations

from typing import Annotated

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
from relforge.cli.flow import run_until

RegistryOption = Annotated[
    str | None,
    typer.Option("--registry", help="Also push by digest to this one.", metavar="HOST/NAME"),
]


def pipeline_app(*, until: str | None, doc: str, publishes: bool = False) -> typer.Typer:
    """A typer app for one verb. ``publishes`` adds ``--registry``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    def run(
        device: DeviceOption = None,
        release: ReleaseOption = None,
        model: ModelOption = None,
        all_: AllOption = False,
        key_path: KeyPathOption = None,
        key_passphrase_file: KeyPassphraseFileOption = None,
        registry: RegistryOption = None,
        json_: JsonOption = False,
        project: ProjectOption = None,
        site: SiteOption = None,
    ) -> None:
        code = run_until(
            until,
            project=project,
            site=site,
            devices=device,
            releases=release,
            models=model,
            everything=all_,
            key_path=key_path,
            key_passphrase_file=key_passphrase_file,
            registry=registry,
            as_json=json_,
        )
        raise typer.Exit(code)

    def run_unpublished(
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
        run(
            device,
            release,
            model,
            all_,
            key_path,
            key_passphrase_file,
            None,
            json_,
            project,
            site,
        )

    app.command(help=doc)(run if publishes else run_unpublished)
    return app
