"""``relforge card``, and what is done with cards."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.card_lint import lint
from relforge.cli.card_test import card_test
from relforge.cli.common import (
    AllOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)
app.command()(lint)
app.command("test")(card_test)


class Lang(str, Enum):
    """The languages of cards."""

    en = "en"
    zh = "zh"


class Hub(str, Enum):
    """Where a card is read; they differ in its head."""

    hf = "hf"
    modelscope = "modelscope"
    github = "github"


@app.callback()
def card(
    ctx: typer.Context,
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    lang: Annotated[
        Lang | None, typer.Option("--lang", help="Only this language (default: both).")
    ] = None,
    target: Annotated[
        Hub, typer.Option("--target", help="Whose head it gets: hf, modelscope or none (github).")
    ] = Hub.hf,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where the cards lie (default: cards/ of the project), a folder for each release.",
            metavar="DIR",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing: show how the card on disk, or else the published one, differs; "
            "exit 6 when it is stale.",
        ),
    ] = False,
    validate: Annotated[
        bool,
        typer.Option(
            "--validate", help="With --target hf: also ask the hub of the site whether it takes it."
        ),
    ] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes the model card from manifests and from the evidence that is there; runs nothing.

    What was not measured on the image of these very manifests is not on the card. Text that people
    wrote between its relforge:free comments is kept.
    """
    if ctx.invoked_subcommand is not None:
        return
    from relforge.cli.card_write import write_cards

    code = write_cards(
        project=project,
        site=site,
        devices=device,
        releases=release,
        models=model,
        everything=all_,
        languages=("en", "zh") if lang is None else (lang.value,),
        target=target.value,
        out=out,
        check=check,
        validate=validate,
        as_json=json_,
    )
    raise typer.Exit(code)
