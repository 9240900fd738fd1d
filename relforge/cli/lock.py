"""``relforge lock``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

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
from relforge.ui.text import error as error_text

if TYPE_CHECKING:
    from relforge.lock import Lock
    from relforge.locking import LockRow
    from relforge.manifest.release import Release

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def lock(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 2 when a lock is missing or stale.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="With --check: only what can be told unfetched.")
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

    Packages that a lock has already stay at their versions unless the manifest changed. A release
    that cannot be locked stops no other; the exit code is that of the first failure.
    """
    from relforge.locking import LockOutput, check_locks, make_locks
    from relforge.resolving import resolve_lock

    if offline and not check:
        raise RelforgeError(
            "--offline is for --check",
            code=ExitCode.USAGE,
            why="a lock is made of what its sources hold",
            hint="relforge lock --check --offline",
        )
    place = workplace(project, site)
    # Never those of the built-in project behind it: their locks come with the program.
    names = list(place.project.own_releases) if all_ else []
    if not all_:
        chosen = select(place.project, devices=device, releases=release, models=model)
        names = [one.name for one in chosen]
    rows: list[LockRow] = []
    with interruptible() as cancel:

        def resolve(manifest: Release) -> Lock:
            return resolve_lock(
                place.project,
                manifest,
                place.site,
                home=place.home,
                on_line=to_stderr,
                cancel=cancel,
                partial=partial,
            )

        def tell(error: RelforgeError) -> None:
            sys.stderr.write(error_text(error) + "\n")

        if check:
            wanted = None if offline else resolve
            made = check_locks(place.project, place.site, names, wanted, tell)
        else:
            made = make_locks(place.project, names, resolve, tell)
        for row in made:
            rows.append(row)
            if not json_:
                sys.stdout.write(_text(row))
                sys.stdout.flush()
    output = LockOutput(locks=tuple(rows))
    if json_:
        print_json(output.model_dump(mode="json"))
    if output.exit_code:
        raise typer.Exit(output.exit_code)


def _text(row: LockRow) -> str:
    text = f"{row.lock or row.release}  {row.state}" + (f": {row.why}" if row.why else "") + "\n"
    # Of a failure the error itself, on stderr, says more.
    return text + (f"  next: {row.hint}\n" if row.hint and row.state != "failed" else "")
