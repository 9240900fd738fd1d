"""Starting a launch on its hosts, and stopping it: containers live as long as their starter."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.engine.containers import Container, ContainerState, running, stop_release
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite
from relforge.serving.client import OpenAIClient
from relforge.serving.model import LaunchSpec, Node
from relforge.serving.wait import wait_ready

if TYPE_CHECKING:
    from docker import DockerClient

RUN_PREFIX = "serve-"
"""Of the run ids of what is started here, which ``stop`` looks for."""
_POLL_S = 0.5
_REMOVAL_S = 5.0
_KILLED = 128 + signal.SIGKILL

OnLine = Callable[[str, str], None]
"""Takes the node's name and a line of its log."""


@dataclass(frozen=True)
class Ended:
    """A node whose container is no more; ``state`` is ``gone`` for one that was stopped."""

    node: str
    state: ContainerState


class RunningNodes:
    """The containers of a launch, watched as one: ``exited`` is set when the first of them ends."""

    def __init__(self, nodes: Sequence[tuple[Node, Container]]) -> None:
        self._nodes = tuple(nodes)
        self.exited = threading.Event()
        self._first: tuple[Node, Container] | None = None
        self._lock = threading.Lock()
        for node, container in self._nodes:
            threading.Thread(target=self._watch, args=(node, container), daemon=True).start()

    def _watch(self, node: Node, container: Container) -> None:
        container.exited.wait()
        with self._lock:
            self._first = self._first or (node, container)
        self.exited.set()

    def _subject(self) -> tuple[Node, Container]:
        """The node that ended, or the one that answers requests while none has."""
        return self._first or self._nodes[0]

    @property
    def log_path(self) -> Path:
        return self._subject()[1].log_path

    def state(self) -> ContainerState:
        return self._subject()[1].state()

    def log_text(self) -> str:
        return self._subject()[1].log_text()

    def wait(self, cancel: CancelToken) -> Ended:
        """Returns when a node has ended; raises Cancelled when the token is set."""
        while not self.exited.wait(_POLL_S):
            cancel.check()
        cancel.check()
        node, container = self._subject()
        state = container.state()
        deadline = time.monotonic() + _REMOVAL_S
        while state.exit_code in (None, _KILLED) and state.status != "gone":
            # Whoever stops it kills it first: a moment later it is either gone, or was only killed.
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S / 5)
            state = container.state()
        return Ended(shown(node), state)


@dataclass(frozen=True)
class Serving:
    """A launch that is ready."""

    base_url: str
    start_to_ready_s: float
    nodes: RunningNodes


@contextmanager
def serving(
    spec: LaunchSpec,
    site: EngineSite,
    *,
    run_id: str,
    logs: Path,
    cancel: CancelToken,
    on_line: OnLine | None = None,
) -> Iterator[Serving]:
    """Starts every node on its host and waits until the first one answers.

    All containers are removed when the block is left, however that is. Raises RelforgeError
    (ENVIRONMENT) when a host cannot start its node, NotReady (GATE) when a node ends or the launch
    is late, Cancelled when the token is set.
    """
    for node in spec.nodes:
        _connectable(node.context, f"node {shown(node)}")
    address = _address(spec.nodes[0])
    with ExitStack() as stack:
        started: list[tuple[Node, Container]] = []
        for node in spec.nodes:
            cancel.check()
            engine = stack.enter_context(_engine(node, site))
            container = stack.enter_context(
                running(
                    engine,
                    node,
                    run_id=run_id,
                    release=spec.release,
                    log_path=logs / f"{shown(node)}.log",
                    on_line=None if on_line is None else _tagged(on_line, shown(node)),
                )
            )
            started.append((node, container))
        nodes = RunningNodes(started)
        first = started[0][1]
        url = _url(address, first, spec.nodes[0].port)
        health = url if spec.health_port is None else _url(address, first, spec.health_port)
        with OpenAIClient(health, spec.served_name) as client:
            seconds = wait_ready(
                nodes,
                client,
                health_path=spec.health_path,
                timeout_s=spec.ready_timeout_s,
                cancel=cancel,
            )
        yield Serving(url, seconds, nodes)


def stop(release: str, contexts: Sequence[str | None], site: EngineSite) -> tuple[str, ...]:
    """Removes what ``serving`` started of that release on these hosts; returns container names.

    ``None`` among *contexts* is the site's own engine. Raises RelforgeError (ENVIRONMENT).
    """
    removed: list[str] = []
    for context in dict.fromkeys(contexts):
        _connectable(context, "the nodes file")
        engine = connect(_site(context, site))
        try:
            removed += stop_release(engine, release, RUN_PREFIX)
        finally:
            engine.close()
    return tuple(removed)


def shown(node: Node) -> str:
    """The node's name for people."""
    return node.host or node.name


@contextmanager
def _engine(node: Node, site: EngineSite) -> Iterator[DockerClient]:
    engine = connect(_site(node.context, site))
    try:
        yield engine
    finally:
        engine.close()


def _site(context: str | None, site: EngineSite) -> EngineSite:
    return site if context is None else site.model_copy(update={"host": context})


def _tagged(on_line: OnLine, name: str) -> Callable[[str], None]:
    return lambda line: on_line(name, line)


def _url(address: str, container: Container, port: int) -> str:
    # Port 0, where nothing can answer, for a server that has ended already.
    return f"http://{address}:{container.host_port(port) or 0}"


def _connectable(context: str | None, where: str) -> None:
    if context is not None and context.startswith("ssh://"):
        raise RelforgeError(
            "nodes behind ssh:// are not started directly",
            code=ExitCode.USAGE,
            where=where,
            why="Docker's own client speaks ssh, and the library that starts containers does not",
            hint="print the launch and run it: relforge serve --print shell --out DIR",
        )


def _address(node: Node) -> str:
    """Where the first node answers from here."""
    here = node.context is None or node.context.startswith("unix://")
    if node.context is not None and node.network == "host" and node.address is not None:
        return f"[{node.address}]" if ":" in node.address else node.address
    if here:
        return "127.0.0.1"
    raise RelforgeError(
        f"node {shown(node)} cannot be asked from here whether it is ready",
        code=ExitCode.USAGE,
        where=f"node {shown(node)}",
        why="its port is published on its own loopback, or the nodes file has no address of it",
        hint="set serve.network to host and address in the nodes file, or print the launch",
    )
