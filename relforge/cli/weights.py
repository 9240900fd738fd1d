"""``relforge weights``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relforge.cli.common import (
    ProjectOption,
    SiteOption,
    interruptible,
    to_stderr,
    workplace,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def weights() -> None:
    """Looks after the weights that models name."""


@app.command()
def pin(
    model: Annotated[str, typer.Option("--model", "-m", help="The model.", metavar="NAME")],
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Branch, tag or commit (ModelScope: tag or commit)."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put it into the model's manifest, too.")
    ] = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Looks up what the hub has: revision, files, sizes and hashes, as the manifest has them."""
    from relforge.weights import pinning

    place = workplace(project, site)
    manifest = place.project.model(model)
    with interruptible() as cancel:
        found = pinning.pinned_now(
            manifest,
            revision=revision,
            home=place.home,
            site=place.site,
            cancel=cancel,
            line=to_stderr,
        )
    if write:
        file = place.project.model_files[model]
        pinning.write(file, found)
        to_stderr(f"wrote {file}")
    sys.stdout.write(pinning.as_text(found))
