"""Starting what a launch spec says, and the smoke test of the image it names."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relforge.cancel import CancelToken
from relforge.devicequery import ask
from relforge.engine.containers import Container, ContainerState, StartFailed
from relforge.events import Verdict
from relforge.manifest.site import EngineSite
from relforge.manifest.smoke import Smoke
from relforge.serving.client import OpenAIClient
from relforge.serving.deviceproof import DeviceProof
from relforge.serving.diagnosis import diagnose
from relforge.serving.engines.base import ServerTraits
from relforge.serving.expected import Expected
from relforge.serving.model import LaunchSpec
from relforge.serving.nodes import url_of
from relforge.serving.probes import PROBES, OnResult, Target, run_probes
from relforge.serving.reference import GreedyText
from relforge.serving.report import Cause, ProbeReport, ProbeResult, SmokeReport
from relforge.serving.up import OnLine, Served, Up, launched, serve_context, wait_up
from relforge.serving.wait import NotReady, wait_ready

if TYPE_CHECKING:
    from docker import DockerClient


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
    expected: Expected | None = None,
    on_result: OnResult | None = None,
) -> SmokeReport:
    """Starts the server, probes it, stops it, and reports; a failed gate is a report, no error.

    ``engine`` is that of the first node; the others are started through their contexts, as *site*
    says where they have none. Raises RelforgeError (ENVIRONMENT) when a host cannot start its
    container at all (engine, image, port, device), and Cancelled. No container survives either.
    """
    began = time.monotonic()
    expected = expected or Expected()
    proof = _proof(spec, expected, site)
    if proof is not None:
        proof.sample("before")
    asked = time.monotonic()
    try:
        with launched(
            spec, engine, site, run_id=run_id, log_path=log_path, cancel=cancel, on_line=on_line
        ) as up:
            times = _Times(began, launch_s=time.monotonic() - asked)
            target = _target(spec, up, settings, reference, expected, proof)
            return _probe(spec, engine, up, target, cancel, config_digest, times, on_result)
    except StartFailed as error:
        cause = diagnose("", None, error.why or "")
        if cause is None or cause.id not in FAULTS_OF_THE_IMAGE:
            raise
        return _never_started(error, cause, log_path, config_digest)


@dataclass(frozen=True)
class _Times:
    """When the smoke test began (``time.monotonic``), and what the engine took for the launch."""

    began: float
    launch_s: float


FAULTS_OF_THE_IMAGE = ("exec-not-found", "exec-format")


def _target(
    spec: LaunchSpec,
    up: Up,
    settings: Smoke,
    reference: Sequence[GreedyText],
    expected: Expected,
    proof: DeviceProof | None,
) -> Target:
    base_url = url_of(spec.nodes[0], up.first, spec.nodes[0].port)
    client = OpenAIClient(base_url, spec.served_name, timeout_s=settings.request_timeout_s)
    return Target(
        client,
        up.nodes,
        settings,
        tuple(reference),
        languages=expected.languages,
        traits=spec.traits,
        host=up.nodes,
        device=proof,
        expected_version=expected.version,
        flaggems=expected.without_flaggems,
    )


def _proof(spec: LaunchSpec, expected: Expected, site: EngineSite | None) -> DeviceProof | None:
    device = expected.device
    if device is None:
        return None
    host = spec.nodes[0].context or (site or EngineSite()).host or ""
    return DeviceProof(
        device,
        per_node=expected.accelerators_per_node,
        nodes=spec.nodes[0].devices,
        ask=lambda: ask(device),
        absent=None
        if not host or host.startswith("unix://")
        else f"the engine is at {host}: the devices are that host's",
    )


def _probe(
    spec: LaunchSpec,
    engine: DockerClient,
    up: Up,
    target: Target,
    cancel: CancelToken,
    config_digest: str | None,
    times: _Times,
    on_result: OnResult | None,
) -> SmokeReport:
    container, client = up.first, target.client
    image_id = container.image_id
    peak: list[int | None] = []
    deadline = time.monotonic() + spec.ready_timeout_s
    started = time.monotonic()

    def wait_port() -> None:
        wait_ready(
            up.nodes,
            client,
            health_path=spec.health_path,
            timeout_s=spec.ready_timeout_s,
            cancel=cancel,
            any_status=True,
        )

    def wait() -> float:
        wait_up(spec, up, client, cancel, timeout_s=max(0.1, deadline - time.monotonic()))
        client.busy_s = 0.0  # asking whether it is ready belongs to its start
        return time.monotonic() - started

    target.wait_port, target.wait = wait_port, wait
    target.before_stop = lambda: peak.append(_memory_peak(container))
    with client:
        results = run_probes(target, PROBES, cancel=cancel, on_result=on_result)
    ready_s, stop_s = target.start_to_ready_s, target.stop_s
    return SmokeReport(
        **_seen(target, results),
        start_to_ready_s=ready_s,
        stop_s=stop_s,
        launch_s=times.launch_s,
        overhead_s=None
        if ready_s is None or stop_s is None
        else time.monotonic() - times.began - times.launch_s - ready_s - stop_s - client.busy_s,
        device=tuple(target.device.samples) if target.device else (),
        memory_peak_bytes=peak[0] if peak else None,
        state=container.state(),
        image_id=image_id,
        config_digest=config_digest or _config_digest(engine, image_id),
        server_log=container.log_path,
    )


def probe_url(
    url: str,
    model: str,
    *,
    reference: Sequence[GreedyText],
    settings: Smoke,
    traits: ServerTraits,
    languages: tuple[str, ...] = (),
    cancel: CancelToken,
    on_result: OnResult | None = None,
) -> ProbeReport:
    """Probes a server that somebody else started, at its root *url*; it goes on. Raises Cancelled.

    What needs its container is ``not-run``.
    """
    root = url.rstrip("/").removesuffix("/v1")
    with OpenAIClient(root, model, timeout_s=settings.request_timeout_s) as client:
        target = Target(
            client, None, settings, tuple(reference), languages=languages, traits=traits
        )
        results = run_probes(target, PROBES, cancel=cancel, on_result=on_result)
    return ProbeReport(**_seen(target, results))


def _seen(target: Target, results: tuple[ProbeResult, ...]) -> dict[str, Any]:
    """The fields of ``ProbeReport``."""
    streamed = target.streamed
    first_s = streamed.first_token_s if streamed else None
    verdict, reason, cause = _judge(results)
    return {
        "verdict": verdict,
        "reason": reason,
        "cause": cause,
        "probes": results,
        "server_version": target.server_version,
        "max_model_len": target.max_model_len,
        "first_token_ms": None if first_s is None else first_s * 1000,
        "tokens_per_s": streamed.tokens_per_s if streamed else None,
    }


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
        state=ContainerState(status="created", error=error.why or ""),
        config_digest=config_digest,
        server_log=log_path,
    )


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


__all__ = ["NotReady", "Served", "run_smoke", "serve_context"]
