"""Starting what a launch spec says, and the smoke test of the image it names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.engine.containers import Container, ContainerState, StartFailed, running
from relforge.errors import Cancelled
from relforge.frozen import Frozen
from relforge.manifest.release import Smoke
from relforge.manifest.site import EngineSite
from relforge.serving.client import OpenAIClient
from relforge.serving.diagnosis import Cause, diagnose
from relforge.serving.nodes import started, url_of
from relforge.serving.probes import PROBES, ProbeResult, Target, run_probes
from relforge.serving.reference import GreedyText
from relforge.serving.spec import LaunchSpec
from relforge.serving.start import RunningNodes
from relforge.serving.wait import NotReady, wait_ready
from relforge.stage import Verdict

if TYPE_CHECKING:
    from docker import DockerClient

OnLine = Callable[[str], None]
_CANCEL_POLL_S = 0.2


class SmokeReport(Frozen):
    """What smoke saw. Figures are None when the server did not come that far.

    ``tokens_per_s`` is completion tokens by seconds of one streamed request, alone on the server.
    ``image_id`` is what the engine ran: the manifest (or index) digest with containerd's image
    store, the config digest with the classic one; ``config_digest`` is only known in the latter
    case or when the caller named it.
    """

    verdict: Verdict
    reason: str
    cause: Cause | None
    probes: tuple[ProbeResult, ...]
    start_to_ready_s: float | None
    first_token_ms: float | None
    tokens_per_s: float | None
    memory_peak_bytes: int | None
    state: ContainerState
    image_id: str | None
    config_digest: str | None
    server_log: Path


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
    with _started(
        spec, engine, site, run_id=run_id, log_path=log_path, cancel=cancel, on_line=on_line
    ) as up:
        base_url = url_of(spec.nodes[0], up.first, spec.nodes[0].port)
        with OpenAIClient(base_url, spec.served_name, timeout_s=request_timeout_s) as client:
            seconds = _wait_ready(spec, up, client, cancel)
            yield Served(base_url, up.first, client, seconds, log_path)


def run_smoke(
    spec: LaunchSpec,
    engine: DockerClient,
    *,
    reference: Sequence[GreedyText],
    settings: Smoke,
    run_id: str,
    log_path: Path,
    cancel: CancelToken,
    on_line: OnLine | None = None,
    config_digest: str | None = None,
    site: EngineSite | None = None,
) -> SmokeReport:
    """Starts the server, probes it, stops it, and reports; a failed gate is a report, no error.

    ``engine`` is that of the first node; the others are started through their contexts, as *site*
    says where they have none. Raises RelforgeError (ENVIRONMENT) when a host cannot start its
    container at all (engine, image, port, device), and Cancelled. No container survives either.
    """
    try:
        with _started(
            spec, engine, site, run_id=run_id, log_path=log_path, cancel=cancel, on_line=on_line
        ) as up:
            return _probe(spec, engine, up, reference, settings, cancel, config_digest)
    except StartFailed as error:
        cause = diagnose("", None, error.why or "")
        if cause is None or cause.id not in _FAULTS_OF_THE_IMAGE:
            raise
        return _never_started(error, cause, log_path, config_digest)


_FAULTS_OF_THE_IMAGE = ("exec-not-found", "exec-format")


def _probe(
    spec: LaunchSpec,
    engine: DockerClient,
    up: _Up,
    reference: Sequence[GreedyText],
    settings: Smoke,
    cancel: CancelToken,
    config_digest: str | None,
) -> SmokeReport:
    container = up.first
    image_id = container.image_id
    base_url = url_of(spec.nodes[0], container, spec.nodes[0].port)
    with OpenAIClient(base_url, spec.served_name, timeout_s=settings.request_timeout_s) as client:
        target = Target(client, up.nodes, settings, tuple(reference))
        target.wait = lambda: _wait_ready(spec, up, client, cancel)
        results = run_probes(target, cancel=cancel)
    streamed = target.streamed
    first_s = streamed.first_token_s if streamed else None
    verdict, reason, cause = _judge(results)
    return SmokeReport(
        verdict=verdict,
        reason=reason,
        cause=cause,
        probes=results,
        start_to_ready_s=target.start_to_ready_s,
        first_token_ms=None if first_s is None else first_s * 1000,
        tokens_per_s=streamed.tokens_per_s if streamed else None,
        memory_peak_bytes=_memory_peak(container),
        state=container.state(),
        image_id=image_id,
        config_digest=config_digest or _config_digest(engine, image_id),
        server_log=container.log_path,
    )


def _judge(results: tuple[ProbeResult, ...]) -> tuple[Verdict, str, Cause | None]:
    """Fail when a probe failed, pass when all that apply passed. The first failure is the reason;
    the first recognised cause is the cause."""
    failed = [result for result in results if result.verdict == "fail"]
    if failed:
        cause = next((result.cause for result in failed if result.cause), None)
        return "fail", f"{failed[0].name}: {failed[0].reason}", cause
    passed = sum(result.verdict == "pass" for result in results)
    return "pass", f"{passed} of {len(results)} probes passed, none failed", None


def _never_started(
    error: StartFailed, cause: Cause, log_path: Path, config_digest: str | None
) -> SmokeReport:
    reason = f"the server could not be started: {cause.explanation}"
    first, *rest = PROBES
    return SmokeReport(
        verdict="fail",
        reason=f"{first.name}: {reason}",
        cause=cause,
        probes=(
            ProbeResult(name=first.name, verdict="fail", reason=reason, seconds=0, cause=cause),
            *(
                ProbeResult(name=probe.name, verdict="not-run", reason="no server", seconds=0)
                for probe in rest
            ),
        ),
        start_to_ready_s=None,
        first_token_ms=None,
        tokens_per_s=None,
        memory_peak_bytes=None,
        state=ContainerState(status="created", error=error.why or ""),
        image_id=None,
        config_digest=config_digest,
        server_log=log_path,
    )


@dataclass(frozen=True)
class _Up:
    """The started containers: the first one answers requests, all are watched as one."""

    first: Container
    nodes: RunningNodes


@contextmanager
def _started(
    spec: LaunchSpec,
    engine: DockerClient,
    site: EngineSite | None,
    *,
    run_id: str,
    log_path: Path,
    cancel: CancelToken,
    on_line: OnLine | None,
) -> Iterator[_Up]:
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
        yield _Up(first, RunningNodes(up))


def _wait_ready(spec: LaunchSpec, up: _Up, client: OpenAIClient, cancel: CancelToken) -> float:
    """The seconds until it was ready; some engines say so on a port of its own."""
    with ExitStack() as stack:
        if spec.health_port is not None:
            url = url_of(spec.nodes[0], up.first, spec.health_port)
            client = stack.enter_context(OpenAIClient(url, spec.served_name))
        return wait_ready(
            up.nodes,
            client,
            health_path=spec.health_path,
            timeout_s=spec.ready_timeout_s,
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


def _memory_peak(container: Container) -> int | None:
    from docker.errors import DockerException

    with suppress(DockerException):
        return container.memory_peak_bytes()
    return None


def _config_digest(engine: DockerClient, image_id: str) -> str | None:
    """The classic image store's image id is the config digest; containerd's is not."""
    status = engine.api.info().get("DriverStatus") or []
    containerd = any("io.containerd.snapshotter" in str(value) for _, value in status)
    return None if containerd else image_id


__all__ = ["NotReady", "Served", "SmokeReport", "run_smoke", "serve_context"]
