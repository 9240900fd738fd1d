"""``relforge init``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import SiteOption, to_stderr
from relforge.errors import ExitCode

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Text = str | None
_OF_MODEL = "A new model"


@app.command()
def init(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The project; a folder that is none becomes one.", metavar="DIR"
        ),
    ] = None,
    device: Annotated[
        Text, typer.Option("--device", "-d", help="A device, by name or alias.", metavar="NAME")
    ] = None,
    model: Annotated[
        Text, typer.Option("--model", "-m", help="A known model or a new one.", metavar="NAME")
    ] = None,
    engine: Annotated[
        Text,
        typer.Option(
            "--engine", help="vllm, flagscale, sglang, paddlenlp or command.", metavar="E"
        ),
    ] = None,
    variant: Annotated[Text, typer.Option("--variant", help="Where there are several.")] = None,
    stack: Annotated[Text, typer.Option("--stack", help="Of the device's stacks.")] = None,
    title: Annotated[Text, typer.Option("--title", help="Of the release.")] = None,
    image: Annotated[
        Text,
        typer.Option(
            "--image", help="Somebody else's, taken as it is: HOST/NAME:TAG[@sha256:...]."
        ),
    ] = None,
    image_source: Annotated[
        Text, typer.Option("--image-source", help="Where it says that this is the image.")
    ] = None,
    source: Annotated[
        Text,
        typer.Option(
            "--source",
            help="URL@COMMIT, NAME==VERSION#sha256=HASH or wheel:NAME==VERSION#sha256=HASH.",
        ),
    ] = None,
    command: Annotated[
        Text, typer.Option("--command", help="For the engine `command`: the server's.")
    ] = None,
    served_name: Annotated[Text, typer.Option("--served-name", help="As clients name it.")] = None,
    port: Annotated[Text, typer.Option("--port", help="Where the server listens.")] = None,
    tensor_parallel: Annotated[
        Text, typer.Option("--tensor-parallel", help="Accelerators of one copy.", metavar="N")
    ] = None,
    data_parallel: Annotated[
        Text, typer.Option("--data-parallel", help="Copies, of all nodes.", metavar="N")
    ] = None,
    nodes: Annotated[
        Text, typer.Option("--nodes", help="How many share them.", metavar="N")
    ] = None,
    task: Annotated[
        Text, typer.Option("--task", help="An evaluation task of the project.", metavar="FILE")
    ] = None,
    model_title: Annotated[Text, typer.Option(help="Its title.", rich_help_panel=_OF_MODEL)] = None,
    summary: Annotated[Text, typer.Option(help="A sentence.", rich_help_panel=_OF_MODEL)] = None,
    license_: Annotated[
        Text,
        typer.Option("--license", help="Of the weights, SPDX.", rich_help_panel=_OF_MODEL),
    ] = None,
    license_source: Annotated[
        Text, typer.Option(help="Where that stands.", rich_help_panel=_OF_MODEL)
    ] = None,
    architecture: Annotated[
        Text, typer.Option(help="As config.json names it.", rich_help_panel=_OF_MODEL)
    ] = None,
    parameters: Annotated[
        Text, typer.Option(help="A number, or 671B.", rich_help_panel=_OF_MODEL)
    ] = None,
    precision: Annotated[
        Text, typer.Option(help="float32 to w4a8.", rich_help_panel=_OF_MODEL)
    ] = None,
    base_model: Annotated[
        Text, typer.Option(help="What it was made of.", rich_help_panel=_OF_MODEL)
    ] = None,
    base_relation: Annotated[
        Text,
        typer.Option(help="finetune, quantized, merge, adapter.", rich_help_panel=_OF_MODEL),
    ] = None,
    base_license: Annotated[
        Text, typer.Option(help="The base's licence.", rich_help_panel=_OF_MODEL)
    ] = None,
    languages: Annotated[Text, typer.Option(help="en,zh", rich_help_panel=_OF_MODEL)] = None,
    weights: Annotated[
        Text,
        typer.Option(
            help="local, huggingface, modelscope, on-request or by-server.",
            rich_help_panel=_OF_MODEL,
        ),
    ] = None,
    weights_path: Annotated[
        Text, typer.Option(help="local: a folder of the project.", rich_help_panel=_OF_MODEL)
    ] = None,
    weights_repository: Annotated[
        Text, typer.Option(help="On a hub: owner/name.", rich_help_panel=_OF_MODEL)
    ] = None,
    weights_revision: Annotated[
        Text, typer.Option(help="On a hub: commit or tag.", rich_help_panel=_OF_MODEL)
    ] = None,
    weights_folder: Annotated[
        Text,
        typer.Option(help="The same files here, to hash them.", rich_help_panel=_OF_MODEL),
    ] = None,
    weights_what: Annotated[
        Text, typer.Option(help="by-server: what it fetches.", rich_help_panel=_OF_MODEL)
    ] = None,
    weights_source: Annotated[
        Text, typer.Option(help="by-server: where that stands.", rich_help_panel=_OF_MODEL)
    ] = None,
    weights_contact: Annotated[
        Text, typer.Option(help="On request: whom to ask.", rich_help_panel=_OF_MODEL)
    ] = None,
    weights_ask_for: Annotated[
        Text, typer.Option(help="On request: for what.", rich_help_panel=_OF_MODEL)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    site: SiteOption = None,
) -> None:
    """Asks, then writes the manifest of a release, and of its model where none describes it.

    Every question has an option; without a terminal the answers that are missing are named. All is
    checked before it is written, and nothing is overwritten without --force.
    """
    given = {
        name.rstrip("_").replace("_", "-"): value
        for name, value in locals().items()
        if isinstance(value, str)
    }
    from relforge.cli.asking import Asker, on_terminal
    from relforge.cli.init_dialog import Dialog

    asker = Asker(given, on_terminal())
    try:
        written = Dialog.begin(asker, out, site, force=force).run()
    except (typer.Abort, KeyboardInterrupt):
        to_stderr("\nnothing was written")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    sys.stdout.write("".join(f"{path}\n" for path in written))
