"""Makes the verbs that run the pipeline up to a stage; they differ in that stage alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    AllOption,
    ChangedSinceOption,
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
from relforge.cli.flow import How, run_until
from relforge.cli.holding import refuse_to_wait
from relforge.cli.reporting import JunitOption, SummaryOption

if TYPE_CHECKING:
    from relforge.publishing.target import Step

JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Jobs at once, as far as this host has room."),
]
FailFastOption = Annotated[
    bool | None,
    typer.Option(
        "--fail-fast/--keep-going",
        help="Stop everything when one release fails, or go on with the others (the default).",
    ),
]
NoWaitOption = Annotated[
    bool,
    typer.Option(
        "--no-wait",
        help="Fail, and say who it is, where another relforge holds what is needed.",
    ),
]
ExecutorOption = Annotated[
    str | None,
    typer.Option("--executor", help="Where jobs run: local (the default), or ray.", metavar="NAME"),
]


def pipeline_app(*, until: str | None, doc: str, steps: Sequence[Step] = ()) -> typer.Typer:
    """A typer app for one verb. With ``steps`` it also sends what it made, to ``--target``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    def run(
        device: DeviceOption = None,
        release: ReleaseOption = None,
        model: ModelOption = None,
        all_: AllOption = False,
        changed_since: ChangedSinceOption = None,
        jobs: JobsOption = None,
        executor: ExecutorOption = None,
        fail_fast: FailFastOption = None,
        no_wait: NoWaitOption = False,
        key_path: KeyPathOption = None,
        key_passphrase_file: KeyPassphraseFileOption = None,
        target: TargetOption = None,
        registry: RegistryOption = None,
        junit: JunitOption = None,
        summary: SummaryOption = None,
        json_: JsonOption = False,
        project: ProjectOption = None,
        site: SiteOption = None,
    ) -> None:
        if no_wait:
            refuse_to_wait()
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
            how=How(
                jobs=jobs,
                executor=executor,
                fail_fast=fail_fast,
                changed_since=changed_since,
                junit=junit,
                summary=summary,
            ),
        )
        raise typer.Exit(code)

    def run_unpublished(
        device: DeviceOption = None,
        release: ReleaseOption = None,
        model: ModelOption = None,
        all_: AllOption = False,
        changed_since: ChangedSinceOption = None,
        jobs: JobsOption = None,
        executor: ExecutorOption = None,
        fail_fast: FailFastOption = None,
        no_wait: NoWaitOption = False,
        key_path: KeyPathOption = None,
        key_passphrase_file: KeyPassphraseFileOption = None,
        junit: JunitOption = None,
        summary: SummaryOption = None,
        json_: JsonOption = False,
        project: ProjectOption = None,
        site: SiteOption = None,
    ) -> None:
        run(
            device,
            release,
            model,
            all_,
            changed_since,
            jobs,
            executor,
            fail_fast,
            no_wait,
            key_path,
            key_passphrase_file,
            None,
            None,
            junit,
            summary,
            json_,
            project,
            site,
        )

    app.command(help=doc)(run if steps else run_unpublished)
    return app
