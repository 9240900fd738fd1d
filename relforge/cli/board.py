"""``relforge board``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    interruptible,
    print_json,
    to_stderr,
    workplace,
)
from relforge.errors import Cancelled, ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.board.building import Origin

_LOOK_EVERY_S = 0.3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def board(
    address: Annotated[
        str | None, typer.Argument(help="With --serve: where to listen.", metavar="[HOST:PORT]")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page, and follow what runs; writes nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write (default: board, beside dist)."),
    ] = None,
    dist: Annotated[
        list[Path] | None,
        typer.Option("--dist", help="A folder of releases; may be given again (default: dist)."),
    ] = None,
    history: Annotated[
        list[Path] | None,
        typer.Option("--history", help="A folder with earlier records, at any depth."),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes what is released, stale, failing and not run as a page that needs no server.

    It is made from release records (dist/*/release.json), from runs, and from what the manifests
    plan now. Evidence that lies beside it is linked.
    """
    from relforge.board.building import Origin, counts, make_board

    _refuse(address, serve, out, json_)
    place = workplace(project, site)
    dists = tuple(_folder(one, "--dist") for one in dist or ()) or (place.dist,)
    target = (out or place.dist.parent / "board").absolute()
    origin = Origin(
        project=place.project,
        site=place.site,
        home=place.home,
        dists=dists,
        history=tuple(_folder(one, "--history") for one in history or ()),
        page=None if serve else target,
    )
    if serve:
        _serve(origin, address)
        return
    from relforge.board.folder import write_board
    from relforge.board.output import BoardOutput

    made = make_board(origin)
    files = write_board(made, target, line=to_stderr)
    states = counts(made)
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    to_stderr(f"{len(made.made)} releases{': ' + told if told else ''}")
    if any(one.details.record and not one.details.record.evidence for one in made.made.values()):
        to_stderr("some evidence does not lie beside the board, and is not linked")
    to_stderr(f"wrote {target}; open {target / 'index.html'}")
    if json_:
        print_json(
            BoardOutput(
                out=str(target),
                releases=len(made.made),
                states=dict(states),
                runs=sum(one.entry.runs for one in made.made.values()),
                problems=len(made.index.problems),
                files=len(files),
                bytes=sum(files.values()),
            ).model_dump(mode="json")
        )


def _serve(origin: Origin, address: str | None) -> None:
    from relforge.board.building import make_board
    from relforge.board.http import BoardServer, parse_address, serve_until
    from relforge.board.serving import Served

    host, port = parse_address(address)
    server = BoardServer(Served(make_board(origin)), host, port)
    to_stderr(f"serving {server.url} (Ctrl-C stops)")
    if not server.loopback:
        to_stderr("warning: whoever reaches this address can read the board, without a password")
    with interruptible() as token:

        def over() -> bool:
            with suppress(Cancelled):
                token.sleep(_LOOK_EVERY_S)
            return token.cancelled

        serve_until(server, over)


def _refuse(address: str | None, serve: bool, out: Path | None, json_: bool) -> None:
    if serve and (out is not None or json_):
        what = "--out" if out is not None else "--json"
        raise RelforgeError(
            f"--serve writes nothing, so it goes with no {what}",
            code=ExitCode.USAGE,
            hint="run relforge board twice: once to write, once to serve",
        )
    if address is not None and not serve:
        raise RelforgeError(
            f"{address} is where to serve, and --serve is not given",
            code=ExitCode.USAGE,
            hint=f"relforge board --serve {address}; the folder to write is named with --out",
        )


def _folder(path: Path, option: str) -> Path:
    if not path.is_dir():
        raise RelforgeError(
            f"{option} names no folder",
            code=ExitCode.USAGE,
            where=str(path),
            hint="name the folder that relforge publish writes to, such as dist",
        )
    return path.absolute()
