"""``relforge render``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _rendered(chosen: Sequence[Release]) -> list[Release]:
    """Those that are built; the others are named. Raises RelforgeError (USAGE) when none is."""
    built = [one for one in chosen if one.build.image is None]
    for one in chosen:
        if one.build.image is None:
            continue
        if len(chosen) == 1:
            raise RelforgeError(
                f"{one.name} has no Dockerfile",
                code=ExitCode.USAGE,
                why=f"its image is taken as it is: {one.build.image.reference}",
                hint=f"relforge serve --release {one.name} --print shell",
            )
        to_stderr(f"left out: {one.name}, whose image is taken as it is")
    return built


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
    chosen = _rendered(chosen)
    if len(chosen) > 1 and out is None and not json_:
        raise RelforgeError(
            "several Dockerfiles are not printed one after the other",
            code=ExitCode.USAGE,
            hint="name a folder for them: --out DIR",
        )
    texts: dict[str, str] = {}
    for one in chosen:
        whole = subject(place.project, one, place.site)
        texts[one.name] = render_dockerfile(whole)
        if whole.lock.unresolved:
            to_stderr(
                f"note: {one.name} cannot be built yet; not resolved: "
                f"{'; '.join(whole.lock.unresolved)}"
            )
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
