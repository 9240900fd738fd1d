"""A launch whose containers live as long as a block of code, and a server that is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.engine.containers import Container, running
from relforge.errors import Cancelled
from relforge.manifest.site import EngineSite
from relforge.serving.client import OpenAIClient
from relforge.serving.model import LaunchSpec
from relforge.serving.nodes import started, url_of
from relforge.serving.start import RunningNodes
from relforge.serving.wait import wait_ready

if TYPE_CHECKING:
    from docker import DockerClient

OnLine = Callable[[str], None]
_CANCEL_POLL_S = 0.2


@dataclass(frozen=True)
class Served:
    """A server that is up. ``base_url`` has no path; the OpenAI paths start with ``/v1``."""

    base_url: str
    container: Container
    """That of the first node."""
    client: OpenAIClient
    start_to_ready_s: float
    log_path: Path


@contextmanager
def serve_context(
    spec: LaunchSpec,
    engine: DockerClient,
    *,
    run_id: str,
    log_path: Path,
    cancel: CancelToken,
    on_line: OnLine | None = None,
    request_timeout_s: float = 60.0,
    site: EngineSite | None = None,
) -> Iterator[Served]:
    """A server that is ready; its containers are gone when the block is left, however that is.

    ``engine`` is that of the first node; the others are started through their contexts, as *site*
    says where they have none. Raises NotReady (GATE) when a node ends or the server is late,
    StartFailed or another RelforgeError (ENVIRONMENT) when it cannot be started, Cancelled.
    """
    with launched(
        spec, engine, site, run_id=run_id, log_path=log_path, cancel=cancel, on_line=on_line
    ) as up:
        base_url = url_of(spec.nodes[0], up.first, spec.nodes[0].port)
        with OpenAIClient(base_url, spec.served_name, timeout_s=request_timeout_s) as client:
            seconds = wait_up(spec, up, client, cancel)
            yield Served(base_url, up.first, client, seconds, log_path)


@dataclass(frozen=True)
class Up:
    """The started containers: the first one answers requests, all are watched as one."""

    first: Container
    nodes: RunningNodes


@contextmanager
def launched(
    spec: LaunchSpec,
    engine: DockerClient,
    site: EngineSite | None,
    *,
    run_id: str,
    log_path: Path,
    cancel: CancelToken,
    on_line: OnLine | None,
) -> Iterator[Up]:
    """Every node's container; the log of a further node lies beside *log_path*, with its name."""
    cancel.check()
    node, *others = spec.nodes
    log_path.unlink(missing_ok=True)
    with ExitStack() as stack:
        first = stack.enter_context(
            running(
                engine,
                node,
                run_id=run_id,
                release=spec.release,
                log_path=log_path,
                on_line=on_line,
            )
        )
        up = [(spec.name_of(node), first)]
        for other in others:
            cancel.check()
            name = spec.name_of(other)
            container = stack.enter_context(
                started(
                    other,
                    site or EngineSite(),
                    run_id=run_id,
                    release=spec.release,
                    log_path=log_path.with_name(f"{log_path.stem}-{name}.log"),
                    on_line=on_line,
                )
            )
            up.append((name, container))
        stack.enter_context(_ended_by(cancel, [container for _, container in up]))
        yield Up(first, RunningNodes(up))


def wait_up(
    spec: LaunchSpec,
    up: Up,
    client: OpenAIClient,
    cancel: CancelToken,
    *,
    timeout_s: float | None = None,
) -> float:
    """The seconds until it was ready; some engines say so on a port of its own."""
    with ExitStack() as stack:
        if spec.health_port is not None:
            url = url_of(spec.nodes[0], up.first, spec.health_port)
            client = stack.enter_context(OpenAIClient(url, spec.served_name))
        return wait_ready(
            up.nodes,
            client,
            health_path=spec.health_path,
            timeout_s=spec.ready_timeout_s if timeout_s is None else timeout_s,
            cancel=cancel,
        )


@contextmanager
def _ended_by(cancel: CancelToken, containers: Sequence[Container]) -> Iterator[None]:
    """Kills the containers when the token is set, so that a request in flight returns at once."""
    left = threading.Event()

    def watch() -> None:
        try:
            while not left.is_set():
                cancel.sleep(_CANCEL_POLL_S)
        except Cancelled:
            for container in containers:
                container.kill()

    watcher = threading.Thread(target=watch, name="cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()
