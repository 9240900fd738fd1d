"""``relforge release``."""

from __future__ import annotations

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
from relforge.cli.flow import How, resume, run_until
from relforge.cli.holding import refuse_to_wait
from relforge.cli.reporting import JunitOption, SummaryOption
from relforge.cli.verbs import ExecutorOption, FailFastOption, JobsOption, NoWaitOption
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.publishing.target import Step

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_STEPS: tuple[Step, ...] = ("candidate", "promote")


@app.command()
def release(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    changed_since: ChangedSinceOption = None,
    until: Annotated[
        str | None, typer.Option("--until", help="The last stage to run.", metavar="STAGE")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Do this stage and all after it again, whatever is there.",
            metavar="STAGE",
        ),
    ] = None,
    resume_: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Go on with a run that was stopped, killed or failed: with what is left of it.",
            metavar="RUN",
        ),
    ] = None,
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
    """Builds, serves, evaluates, describes and publishes releases; then writes their records.

    With --target or --registry they are also sent and promoted there. One that fails stops no
    other.
    """
    if no_wait:
        refuse_to_wait()
    if resume_ is not None:
        given = (device, release, model, changed_since, until, since, target, registry)
        if all_ or any(given):
            raise RelforgeError(
                "--resume goes on with what the run was asked for",
                code=ExitCode.USAGE,
                hint="leave out everything that names releases, stages or targets",
            )
        how = How(jobs=jobs, executor=executor, fail_fast=fail_fast, junit=junit, summary=summary)
        raise typer.Exit(
            resume(
                resume_, project=project, site=site, key_path=key_path,
                key_passphrase_file=key_passphrase_file, as_json=json_, how=how,
            )
        )  # fmt: skip
    raise typer.Exit(
        run_until(
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
            steps=_STEPS,
            as_json=json_,
            how=How(
                since=since, jobs=jobs, executor=executor, fail_fast=fail_fast,
                changed_since=changed_since, junit=junit, summary=summary,
            ),
        )
    )  # fmt: skip
