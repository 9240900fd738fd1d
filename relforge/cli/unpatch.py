"""``relforge unpatch``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    DeviceOption,
    JsonOption,
    KeyPathOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    interruptible,
    print_json,
    select,
    to_stderr,
    workplace,
)
from relforge.cli.flow import with_keys
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def unpatch(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the trees go, one folder per source.")
    ] = Path("build"),
    device: DeviceOption = None,
    release: ReleaseOption = None,
    key_path: KeyPathOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Applies a release's patch sets and writes the resulting trees to DIR/<device>/<source>.

    Without --device or --release the project's only release is meant. Sealed patch sets are opened
    with the key of --key-path or of the site configuration. A tree that is there already, and
    unchanged, is left as it is.
    """
    from relforge.plan import subject
    from relforge.unpatching import unpatch_release

    place = with_keys(workplace(project, site), key_path)
    own = place.project.own_releases
    if not device and not release and len(own) == 1:
        release = list(own)
    (chosen, *others) = select(place.project, devices=device, releases=release, models=None)
    if others:
        raise RelforgeError(
            "unpatch takes one release at a time",
            code=ExitCode.USAGE,
            why=f"named are {chosen.name}, {', '.join(o.name for o in others)}",
        )
    loaded = subject(place.project, chosen, place.site)
    if not loaded.patch_sets:
        raise RelforgeError(
            f"release {chosen.name} has no patch set",
            code=ExitCode.USAGE,
            hint="its sources are used as they are",
        )
    with interruptible() as cancel:
        trees = unpatch_release(
            loaded,
            directory / chosen.device,
            home=place.home,
            on_line=to_stderr,
            cancel=cancel,
        )
    if json_:
        print_json({"release": chosen.name, "trees": [t.model_dump(mode="json") for t in trees]})
        return
    for tree in trees:
        sys.stdout.write(f"{tree.folder}  {tree.tree.tree}  {tree.status}\n")
