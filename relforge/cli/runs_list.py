"""``relforge runs list``, ``show`` and ``diff``."""

from __future__ import annotations

import sys
import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, workplace
from relforge.errors import ExitCode, RelforgeError

RunArgument = Annotated[str, typer.Argument(help="A run id, or its beginning.", metavar="RUN")]
LimitOption = Annotated[int, typer.Option(help="How many to list.", min=1)]
ReleasesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--release", "-r", help="Only runs of this release (* and ? match).", metavar="NAME"
    ),
]
StatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="Only runs in this state: done, failed, running, interrupted or killed.",
        metavar="STATE",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", help="Only runs that began since: 12h, 7d, 2026-11-29.", metavar="TIME"
    ),
]
_STATES = ("done", "failed", "running", "interrupted", "killed")


def runs(
    ctx: typer.Context,
    release: ReleasesOption = None,
    state: StatesOption = None,
    since: SinceOption = None,
    limit: LimitOption = 20,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Earlier runs: lists them, shows one with its logs, compares two, collects garbage.

    Without a command: the list.
    """
    if ctx.invoked_subcommand is None:
        list_(release, state, since, limit, json_, project, site)
    elif any((release, state, since, json_, project, site)) or limit != 20:
        raise RelforgeError(
            "options come after the command",
            code=ExitCode.USAGE,
            hint=f"relforge runs {ctx.invoked_subcommand} --help",
        )


def list_(
    release: ReleasesOption = None,
    state: StatesOption = None,
    since: SinceOption = None,
    limit: LimitOption = 20,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Lists earlier runs, newest first: id, state, when, how long, exit code, releases.

    A run whose process is gone without a word is listed as killed.
    """
    from relforge.amounts import time_s
    from relforge.history.listing import RunsOutput, rows

    for one in state or ():
        if one not in _STATES:
            raise RelforgeError(
                f"there is no state {one!r}", code=ExitCode.USAGE,
                hint=f"--state takes one of: {', '.join(_STATES)}",
            )  # fmt: skip
    since_s = None if since is None else time_s(since, "--since", now_s=time.time())
    found = rows(
        workplace(project, site).home,
        releases=tuple(release or ()),
        states=tuple(state or ()),
        since_s=since_s,
    )
    shown = tuple(islice(found, limit))
    if json_:
        print_json(RunsOutput(runs=shown).model_dump(mode="json"))
        return
    from relforge.ui.history import table

    sys.stdout.write(table(shown))


def show(
    run: RunArgument,
    release: Annotated[
        str | None,
        typer.Option(
            "--release", "-r", help="This release alone, with everything.", metavar="NAME"
        ),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Shows a run: releases, stages, logs, what it waited for, and the command that goes on.

    Of a run of many releases: one line for each, and the stages of those that failed.
    """
    from relforge.evidence.reading_runs import load_run
    from relforge.history.showing import shown
    from relforge.ui import history

    home = workplace(project, site).home
    found = load_run(home, run)
    told = shown(found, home / "runs" / found.id, release)
    if json_:
        print_json(told.model_dump(mode="json"))
        return
    sys.stdout.write(history.run(told, whole=release is not None))


def diff(
    before: Annotated[str, typer.Argument(help="A run id, or its beginning.", metavar="RUN")],
    after: Annotated[str, typer.Argument(help="The run to compare it with.", metavar="RUN")],
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Says what differs between two runs: releases, stages and why, verdicts, times, digests."""
    from relforge.evidence.reading_runs import load_run
    from relforge.history.comparing import compare
    from relforge.ui import history

    home: Path = workplace(project, site).home
    found = compare(load_run(home, before), load_run(home, after), home)
    if json_:
        print_json(found.model_dump(mode="json"))
        return
    sys.stdout.write(history.difference(found))
