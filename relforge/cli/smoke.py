"""``relforge smoke``."""

from __future__ import annotations

from pathlib import Path
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
from relforge.cli.flow import How, run_until
from relforge.cli.reporting import JunitOption, SummaryOption
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def smoke(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            help="Only this image of the engine, as its release starts it (its label, or --release "
            "or --device, says which).",
            metavar="DIGEST|REF",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="With --image: the folder of the weights.", metavar="DIR"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="Only the server that answers here; --release says what it should be.",
            metavar="URL",
        ),
    ] = None,
    served_name: Annotated[
        str | None,
        typer.Option("--served-name", help="With --url: the model's name there.", metavar="NAME"),
    ] = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Serves the built image and probes it; builds first what is missing.

    With --image an image that is there is probed, with --url a server that runs: neither is
    recorded, and nothing is built.
    """
    if image is None and url is None:
        if weights is not None or served_name is not None:
            raise _misfit("--weights goes with --image, --served-name with --url")
        code = run_until(
            "smoke",
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
    if image is not None and url is not None:
        raise _misfit("--image and --url name two things to probe")
    if all_ or model or key_path or key_passphrase_file or junit or summary:
        raise _misfit(
            "--all, --model, keys and reports are of the pipeline: they go without --image, --url"
        )
    from relforge.cli import smoke_direct

    if url is not None:
        if weights is not None:
            raise _misfit("--weights goes with --image")
        smoke_direct.of_url(
            url,
            devices=device,
            releases=release,
            served_name=served_name,
            as_json=json_,
            project=project,
            site=site,
        )
    elif image is not None:
        if served_name is not None:
            raise _misfit("--served-name goes with --url")
        smoke_direct.of_image(
            image,
            devices=device,
            releases=release,
            weights=weights,
            as_json=json_,
            project=project,
            site=site,
        )


def _misfit(what: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint="relforge smoke --help")
