"""Makes the verbs that run the pipeline up to a stage; they differ in that stage alone."""

from __future__ import annotations

from collections.abc import Sequence

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
from relforge.cli.delivering import RegistryOption, TargetOption, named
from relforge.cli.flow import run_until
from relforge.publishing.target import Step


def pipeline_app(*, until: str | None, doc: str, steps: Sequence[Step] = ()) -> typer.Typer:
    """A typer app for one verb. With ``steps`` it also sends what it made, to ``--target``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    def run(
        device: DeviceOption = None,
        release: ReleaseOption = None,
        model: ModelOption = None,
        all_: AllOption = False,
        key_path: KeyPathOption = None,
        key_passphrase_file: KeyPassphraseFileOption = None,
        target: TargetOption = None,
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
            to=named(target, registry),
            steps=steps,
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
            None,
            json_,
            project,
            site,
        )

    app.command(help=doc)(run if steps else run_unpublished)
    return app
