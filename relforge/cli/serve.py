"""``relforge serve``: how a release is started on its nodes."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    DeviceOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    select,
    to_stderr,
    workplace,
)
from relforge.cli.serve_launch import launch_of
from relforge.errors import ExitCode, RelforgeError
from relforge.serving.model import LaunchSpec
from relforge.serving.place import hosts_of
from relforge.serving.rendering import Form, as_text, only, rendered, write

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Printed(str, Enum):
    """The forms of a launch; ``client`` is what is typed against it."""

    shell = "shell"
    compose = "compose"
    json = "json"
    client = "client"


class LocalStep(str, Enum):
    """Steps of inference without a server."""

    dynamic = "dynamic"
    export = "export"
    static = "static"


@app.command()
def serve(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    print_: Annotated[
        Printed | None,
        typer.Option(
            "--print",
            help="Start nothing: a script, a Compose file or JSON for each node; or what a client "
            "types.",
        ),
    ] = None,
    local: Annotated[
        LocalStep | None,
        typer.Option("--local", help="With --print: inference without a server (paddlenlp)."),
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="End what another relforge serve of it started.")
    ] = False,
    nodes: Annotated[
        str | None,
        typer.Option("--nodes", help="A nodes file, or their number.", metavar="FILE|COUNT"),
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", help="Only this node.", metavar="NAME")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a file for each node.", metavar="DIR")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", help="The image (default: the one built here).", metavar="REF"),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Folder of the weights on the nodes.", metavar="DIR"),
    ] = None,
    mount: Annotated[
        list[str] | None,
        typer.Option("--mount", help="Host path of a mount of the release.", metavar="NAME=/PATH"),
    ] = None,
    check_nodes: Annotated[
        bool,
        typer.Option(
            "--check-nodes/--no-check-nodes",
            help="See first whether several nodes reach each other.",
        ),
    ] = True,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Starts a release on its nodes and serves until it is ended; or prints how it is started.

    Ctrl-C, or --stop from elsewhere, ends it and removes its containers. With --print nothing is
    started: without --out the whole launch is one JSON object, or one node a script or a Compose
    file.
    """
    place = workplace(project, site)
    chosen = select(place.project, devices=device, releases=release, models=None)
    if len(chosen) != 1:
        raise RelforgeError(
            f"one release is launched at a time, and {len(chosen)} are named",
            code=ExitCode.USAGE,
            hint="name one with --release",
        )
    if print_ is None and (out is not None or node is not None):
        raise _misfit("--out and --node belong to --print")
    if print_ is not None and stop:
        raise _misfit("--print starts nothing that --stop could end")
    if local is not None and print_ in (None, Printed.client):
        raise _misfit("--local is printed, as shell, compose or json; it is started by hand")
    if local is not None and weights is not None:
        raise _misfit("--local reads no --weights: its folders are the release's, named by --mount")
    hosts = hosts_of(nodes, chosen[0]) if nodes is not None else None
    if stop:
        from relforge.cli.serve_run import end

        end(place, chosen[0].name, hosts)
        return
    if print_ is Printed.client:
        from relforge.serving.client_script import client_script

        if out is not None or node is not None:
            raise _misfit("--print client is one script: it goes without --out and --node")
        sys.stdout.write(client_script(chosen[0], hosts))
        return
    spec = launch_of(
        place,
        chosen[0],
        hosts=hosts,
        image=image,
        weights=weights,
        mount=mount or [],
        local=local.value if local else None,
        started=print_ is None,
    )
    if print_ is None:
        from relforge.cli.serve_run import run

        run(place, spec, check_nodes=check_nodes)
    else:
        _print(spec, print_.value, node, out)


def _print(spec: LaunchSpec, form: Form, node: str | None, out: Path | None) -> None:
    wanted = spec.nodes if node is None else (only(spec, node),)
    if out is not None:
        for path in write(spec, wanted, form, out):
            to_stderr(f"wrote {path}")
    elif form == "json" and node is None:
        sys.stdout.write(as_text(spec))
    elif len(wanted) == 1:
        sys.stdout.write(rendered(spec, wanted[0], form))
    else:
        raise RelforgeError(
            f"the launch of {spec.release} has {len(wanted)} nodes, each with a file of its own",
            code=ExitCode.USAGE,
            hint="add --out DIR, or choose one with --node NAME",
        )


def _misfit(what: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint="relforge serve --help")
