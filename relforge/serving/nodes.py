"""A node of a launch on its host: where that is, and a container started there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from relforge.engine.client import connect
from relforge.engine.containers import Container, ImageMissing, running
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite
from relforge.serving.model import Node


def site_of(context: str | None, site: EngineSite) -> EngineSite:
    """How the engine of a node is reached; ``None`` is the site's own."""
    return site if context is None else site.model_copy(update={"host": context})


@contextmanager
def started(
    node: Node,
    site: EngineSite,
    *,
    run_id: str,
    release: str,
    log_path: Path,
    on_line: Callable[[str], None] | None = None,
) -> Iterator[Container]:
    """The node's container on its host; it is removed when the block is left, however that is.

    Raises what ``running`` and ``connect`` raise, with the node's name.
    """
    with ExitStack() as stack:
        try:
            engine = connect(site_of(node.context, site))
            stack.callback(engine.close)
            container = stack.enter_context(
                running(
                    engine,
                    node,
                    run_id=run_id,
                    release=release,
                    log_path=log_path,
                    on_line=on_line,
                )
            )
        except RelforgeError as error:
            if node.host:
                error.where = f"node {node.host}, {error.where}"
            if isinstance(error, ImageMissing) and node.context:
                error.hint = f"docker save {node.image} | docker --host {node.context} load"
            raise
        yield container


def url_of(node: Node, container: Container, port: int) -> str:
    """Where *port* of the node's container answers from here. Raises RelforgeError (USAGE)."""
    address = address_from_here(node)
    host = f"[{address}]" if ":" in address else address
    # Port 0, where nothing can answer, for a server that has ended already: with any other port
    # a stranger's server might be taken for it.
    return f"http://{host}:{container.host_port(port) or 0}"


def address_from_here(node: Node) -> str:
    """Where the node's server answers from here. Raises RelforgeError (USAGE) for nowhere."""
    here = node.context is None or node.context.startswith("unix://")
    if node.context is not None and node.network == "host" and node.address is not None:
        return node.address
    if here:
        return node.ports[0].address if node.ports else "127.0.0.1"
    raise RelforgeError(
        f"node {node.host or node.name} cannot be asked from here whether it is ready",
        code=ExitCode.USAGE,
        where=f"node {node.host or node.name}",
        why="its port is published on its own loopback, or the nodes file has no address of it",
        hint="set serve.network to host and address in the nodes file, or print the launch",
    )
