"""``relforge lock``."""

from __future__ import annotations

import sys
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
    interruptible,
    print_json,
    select,
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def lock(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 2 when a lock is stale.")
    ] = False,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="What cannot be had here stays unresolved, and is said."),
    ] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Resolves sources, patch sets and Python packages to hashes, and writes the lock.

    Packages that a lock has already stay at their versions unless the manifest changed.
    """
    from relforge.lock import dump_lock, lock_path, write_lock
    from relforge.resolving import resolve_lock

    place = workplace(project, site)
    chosen = select(place.project, devices=device, releases=release, models=model, everything=all_)
    rows = []
    with interruptible() as cancel:
        for manifest in chosen:
            made = resolve_lock(
                place.project,
                manifest,
                place.site,
                home=place.home,
                on_line=to_stderr,
                cancel=cancel,
                partial=partial,
            )
            path = lock_path(place.project, manifest)
            same = path.exists() and path.read_bytes() == dump_lock(made)
            if check and not same:
                raise RelforgeError(
                    f"the lock of {manifest.name} is stale",
                    code=ExitCode.USAGE,
                    where=str(path),
                    hint=f"relforge lock --release {manifest.name}",
                )
            if not same:
                write_lock(place.project, manifest, made)
            rows.append({"release": manifest.name, "lock": str(path), "changed": not same})
    if json_:
        print_json({"locks": rows})
        return
    for row in rows:
        sys.stdout.write(f"{row['lock']}  {'written' if row['changed'] else 'unchanged'}\n")
