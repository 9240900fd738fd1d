"""``relforge worker``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    ProjectOption,
    SiteOption,
    Workplace,
    interruptible,
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock

if TYPE_CHECKING:
    from relforge.executor.ray_host import WorkerPlace

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def worker(
    address: Annotated[
        str | None, typer.Option("--address", help="The head of the cluster.", metavar="HOST:PORT")
    ] = None,
    head: Annotated[bool, typer.Option("--head", help="Begin a cluster here.")] = False,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", "-d", metavar="NAME[=COUNT]",
            help="A device of this host, and how many (else what its query program lists).",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What this host is called (else its hostname).")
    ] = None,
    node_ip: Annotated[
        str | None, typer.Option("--node-ip", help="The address that others reach this host at.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Of the head.", min=1, max=65535)] = 6379,
    cpus: Annotated[
        int | None, typer.Option("--cpus", help="Processor cores to lend (else all).", min=1)
    ] = None,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:  # fmt: skip
    """Runs jobs of releases on this host, as one node of a Ray cluster, until Ctrl-C.

    The host has its own home, engine, mirrors and keys: those of its own site configuration.
    """
    from relforge.executor.ray_cluster import require_answer, shows
    from relforge.executor.ray_node import Node, run_node
    from relforge.executor.ray_version import own_version

    place = workplace(project, site)
    joined = address or place.site.ray.address
    if head == (address is not None):
        if head:
            raise _usage("--head and --address exclude each other")
        if joined is None:
            raise _usage("neither --head nor --address is given, and the site names no cluster")
    if not head and joined is not None:
        require_answer(joined)
    here = _here(place, name)
    node = Node(
        address=None if head else joined,
        ip=node_ip,
        port=port,
        resources=_resources(place, device),
        object_store_bytes=place.site.ray.object_store_bytes,
        cpu_cores=cpus,
        environment=shows(place.site),
    )
    # Another worker's session lies in this home, too: it must not be taken for an old one.
    alone = held_lock(here.home / "locks" / "ray-worker", purpose="relforge worker", wait_s=0)
    to_stderr(f"{here.name}: relforge {own_version()}, home {here.home}")
    for resource, amount in sorted(node.resources.items()):
        to_stderr(f"  {resource}: {amount:g}")
    to_stderr("head of a new cluster" if head else f"joins {joined}")
    with interruptible() as cancel, alone:
        run_node(node, here, cancel, here.home / "ray" / "node.log")
    to_stderr(f"{here.name} left the cluster")


def _here(place: Workplace, name: str | None) -> WorkerPlace:
    from relforge.executor.ray_host import WorkerPlace
    from relforge.executor.ray_version import own_code

    (place.home / "ray").mkdir(parents=True, exist_ok=True)
    return WorkerPlace(
        name=name or socket.gethostname(),
        home=place.home.absolute(),
        site=None if place.site_file is None else Path(place.site_file).absolute(),
        code=own_code(),
    )


def _resources(place: Workplace, options: list[str] | None) -> dict[str, float]:
    """What this host lends; what killed jobs left on it goes first."""
    from relforge import sweeping
    from relforge.executor.ray_host import devices_found, devices_named, host_resources

    devices = devices_named(options, place.project) if options else devices_found(place.project)
    sweeping.files(place.home, place.dist, to_stderr)
    engine = _engine_answers(place)
    if engine:
        sweeping.engine(place.home, place.site.engine, to_stderr)
    return host_resources(place.site, place.home, devices, engine=engine)


def _engine_answers(place: Workplace) -> bool:
    from relforge import hostcheck

    missing = [one for one in hostcheck.engine(place.site) if one.state == "missing"]
    for one in missing:
        to_stderr(f"no builds and no servers here: {one.name}: {one.found}")
    return not missing


def _usage(what: str) -> RelforgeError:
    return RelforgeError(
        what, code=ExitCode.USAGE, hint="relforge worker --head, or: --address HOST:PORT"
    )
