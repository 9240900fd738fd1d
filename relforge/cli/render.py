"""``relforge render``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    AllOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    print_json,
    select,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def render(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write DIR/<release>/Dockerfile instead.", metavar="DIR"),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Prints the Dockerfile that a release is built from; nothing is fetched and nothing runs.

    Several releases need --out. When one cannot be rendered, no file is written.
    """
    from relforge.files import write_atomic
    from relforge.rendering import render_dockerfile
    from relforge.subject import subject

    place = workplace(project, site)
    chosen = select(place.project, devices=device, releases=release, models=model, everything=all_)
    if len(chosen) > 1 and out is None and not json_:
        raise RelforgeError(
            "several Dockerfiles are not printed one after the other",
            code=ExitCode.USAGE,
            hint="name a folder for them: --out DIR",
        )
    texts = {one.name: render_dockerfile(subject(place.project, one, place.site)) for one in chosen}
    if out is None:
        if json_:
            print_json({"dockerfiles": texts})
        else:
            sys.stdout.write("".join(texts.values()))
        return
    paths = {name: out / name / "Dockerfile" for name in texts}
    for name, path in paths.items():
        write_atomic(path, texts[name].encode())
    if json_:
        print_json({"dockerfiles": {name: str(path) for name, path in paths.items()}})
        return
    for path in paths.values():
        sys.stdout.write(f"{path}\n")
