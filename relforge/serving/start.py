"""Starting a launch on its hosts, and stopping it: containers live as long as their starter."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.engine.containers import Container, ContainerState, stop_release
from relforge.manifest.site import EngineSite
from relforge.serving.client import OpenAIClient
from relforge.serving.model import LaunchSpec
from relforge.serving.nodes import address_from_here, site_of, started, url_of
from relforge.serving.wait import wait_ready

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

    def __init__(self, nodes: Sequence[tuple[str, Container]]) -> None:
        """With their names, in order of rank."""
        self._nodes = tuple(nodes)
        self.exited = threading.Event()
        self._first: tuple[str, Container] | None = None
        self._lock = threading.Lock()
        for name, container in self._nodes:
            threading.Thread(target=self._watch, args=(name, container), daemon=True).start()

    def _watch(self, name: str, container: Container) -> None:
        container.exited.wait()
        with self._lock:
            self._first = self._first or (name, container)
        self.exited.set()

    def _subject(self) -> tuple[str, Container]:
        """The node that ended, or the one that answers requests while none has."""
        return self._first or self._nodes[0]

    @property
    def log_path(self) -> Path:
        return self._subject()[1].log_path

    def state(self) -> ContainerState:
        return self._subject()[1].state()

    def log_text(self) -> str:
        return self._subject()[1].log_text()

    def execute(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """In the container that answers requests: exit status, and what it wrote."""
        return self._nodes[0][1].execute(argv)

    def stop(self, timeout_s: float) -> ContainerState:
        """Asks all of them to end, the one that answers requests first, and returns its state."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(self._nodes)) as pool:
            states = [pool.submit(one.stop, timeout_s) for _, one in self._nodes]
        return states[0].result()

    def wait(self, cancel: CancelToken) -> Ended:
        """Returns when a node has ended; raises Cancelled when the token is set."""
        while not self.exited.wait(_POLL_S):
            cancel.check()
        cancel.check()
        name, container = self._subject()
        state = container.state()
        deadline = time.monotonic() + _REMOVAL_S
        while state.exit_code in (None, _KILLED) and state.status != "gone":
            # Whoever stops it kills it first: a moment later it is either gone, or was only killed.
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S / 5)
            state = container.state()
        return Ended(name, state)


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
    address_from_here(spec.nodes[0])  # or the reason why not, before anything is started
    with ExitStack() as stack:
        up: list[tuple[str, Container]] = []
        for node in spec.nodes:
            cancel.check()
            name = spec.name_of(node)
            container = stack.enter_context(
                started(
                    node,
                    site,
                    run_id=run_id,
                    release=spec.release,
                    log_path=logs / f"{name}.log",
                    on_line=None if on_line is None else _tagged(on_line, name),
                )
            )
            up.append((name, container))
        nodes = RunningNodes(up)
        first = up[0][1]
        url = url_of(spec.nodes[0], first, spec.nodes[0].port)
        health = url_of(spec.nodes[0], first, spec.health_port) if spec.health_port else url
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
        engine = connect(site_of(context, site))
        try:
            removed += stop_release(engine, release, RUN_PREFIX)
        finally:
            engine.close()
    return tuple(removed)


def _tagged(on_line: OnLine, name: str) -> Callable[[str], None]:
    return lambda line: on_line(name, line)
