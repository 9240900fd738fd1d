"""What a card says, gathered from manifests and recorded results; no figure has another origin."""

from __future__ import annotations

import shlex
from typing import Any

from relforge.benching.model import BenchReport
from relforge.card.weights import WeightsSource, weights_source
from relforge.coverage.rows import CoverageRow
from relforge.evaluation.gate import Figures
from relforge.frozen import Frozen
from relforge.lock import LockedPatchSet, LockedSource
from relforge.manifest.device import Device
from relforge.manifest.model import Model
from relforge.manifest.release import Release
from relforge.serving.spec import docker_argv, launch_spec
from relforge.stages.build import BuildResult
from relforge.stages.smoke import SmokeResult
from relforge.ui.text import size


class Row(Frozen):
    """One row of a two-column table."""

    name: str
    value: str


class SourceRow(Frozen):
    """One source: where it is from, its tree after patching, how its native code was had."""

    name: str
    identity: str
    tree: str
    native: str


class PatchRow(Frozen):
    """One patch set."""

    name: str
    source: str
    count: int
    result_tree: str
    sealed: bool


class CardData(Frozen):
    """Everything the template uses."""

    title: str
    summary: str
    model: str
    license: str
    license_source: str
    languages: tuple[str, ...]
    base_model: str | None
    base_model_relation: str | None
    precision: str
    parameters: int
    device: str
    device_title: str
    release: str
    engine: str
    image: tuple[Row, ...]
    sources: tuple[SourceRow, ...]
    patches: tuple[PatchRow, ...]
    serving: tuple[Row, ...]
    evaluation: tuple[Figures, ...]
    performance: BenchReport | None
    coverage: tuple[Row, ...]
    limits: tuple[str, ...]
    accepted_complaints: tuple[Row, ...]
    load_command: str
    pull_command: str | None
    run_command: str
    request_command: str
    request_answer: str | None
    weights: WeightsSource
    lock_sha256: str
    host_prerequisites: tuple[str, ...]
    contact: str | None


def gather(
    *,
    release: Release,
    device: Device,
    model: Model,
    sources: dict[str, LockedSource],
    patches: dict[str, LockedPatchSet],
    trees: dict[str, str],
    lock_sha256: str,
    build: BuildResult,
    smoke: SmokeResult,
    evaluation: tuple[Figures, ...],
    performance: BenchReport | None,
    coverage: tuple[CoverageRow, ...],
    sealed: frozenset[str],
    skipped: dict[str, str],
    registry: str | None,
) -> CardData:
    """The card of one release. Values that nobody measured are absent, not guessed.

    ``trees``: of each source, after its patch set.
    """
    return CardData(
        title=release.title,
        summary=model.summary,
        model=model.title,
        license=model.license,
        license_source=model.license_source,
        languages=model.languages,
        base_model=model.base_model,
        base_model_relation=model.base_model_relation,
        precision=model.precision,
        parameters=model.parameters,
        device=device.name,
        device_title=device.title,
        release=release.name,
        engine="a server of its own" if release.engine == "command" else release.engine,
        image=_image_rows(build),
        sources=tuple(
            SourceRow(
                name=name,
                identity=source.identity,
                tree=trees[name],
                native=next(
                    (p.describe() for p in build.packages if p.source == name), "read by the build"
                ),
            )
            for name, source in sources.items()
        ),
        patches=tuple(
            PatchRow(
                name=name,
                source=locked.source,
                count=len(locked.patches),
                result_tree=trees[locked.source],
                sealed=name in sealed,
            )
            for name, locked in patches.items()
        ),
        serving=_serving_rows(smoke),
        evaluation=evaluation,
        performance=performance,
        coverage=tuple(Row(name=row.name, value=row.value) for row in coverage),
        limits=_limits(device, model, build, smoke, skipped),
        accepted_complaints=tuple(
            Row(name=c.complaint, value=c.reason) for c in release.build.python.pip_check_exceptions
        ),
        load_command="tar -C image -c . | docker load",
        pull_command=f"docker pull {registry}@{build.image_digest}" if registry else None,
        run_command=_run_command(release, device, build, registry),
        request_command=_request_command(release, smoke),
        request_answer=_answer(smoke),
        weights=weights_source(model),
        lock_sha256=lock_sha256,
        host_prerequisites=device.host_prerequisites,
        contact=device.vendor.contact,
    )


def _image_rows(build: BuildResult) -> tuple[Row, ...]:
    rows = [
        Row(name="Name", value=f"`{build.image_name}`"),
        Row(name="Digest", value=f"`{build.image_digest}`"),
        Row(name="Size, compressed", value=size(build.compressed_bytes)),
        Row(name="Size, unpacked", value=size(build.unpacked_bytes)),
        Row(name="Architecture", value=build.architecture),
        Row(name="Created", value=build.created),
        Row(name="Base image", value=f"{build.base_how}: `{build.base_digest}`"),
    ]
    if build.python is not None:
        rows.append(Row(name="Python", value=build.python))
    for name in ("torch", "vllm", "flag_gems", "transformers", "numpy"):
        version = build.python_packages.get(name) or build.python_packages.get(
            name.replace("_", "-")
        )
        if version:
            rows.append(Row(name=name, value=version))
    return tuple(rows)


def _serving_rows(smoke: SmokeResult) -> tuple[Row, ...]:
    report = smoke.report
    passed = sum(p.verdict == "pass" for p in report.probes)
    rows = [
        Row(name="Smoke test", value=f"{smoke.verdict}: {passed} of {len(report.probes)} probes")
    ]
    if report.start_to_ready_s is not None:
        rows.append(Row(name="Start to ready", value=f"{report.start_to_ready_s:.0f} s"))
    if report.first_token_ms is not None:
        rows.append(Row(name="First token, one request", value=f"{report.first_token_ms:.0f} ms"))
    if report.tokens_per_s is not None:
        rows.append(Row(name="Tokens per second, one request", value=f"{report.tokens_per_s:.0f}"))
    if report.memory_peak_bytes is not None:
        rows.append(Row(name="Memory, peak", value=size(report.memory_peak_bytes)))
    return tuple(rows)


def _limits(
    device: Device,
    model: Model,
    build: BuildResult,
    smoke: SmokeResult,
    skipped: dict[str, str],
) -> tuple[str, ...]:
    found = [
        f"{probe.name}: not run ({probe.reason})"
        for probe in smoke.report.probes
        if probe.verdict == "not-run"
    ]
    found += [f"{stage}: not run ({reason})" for stage, reason in skipped.items()]
    if not model.weights.files:
        found.append("the weights were not verified: the model manifest pins no hash of them")
    if not device.accelerator and any(p.distribution == "flag_gems" for p in build.packages):
        found.append(
            "FlagGems' operators: not run (no accelerator); the package is installed, not used"
        )
    return tuple(found)


def _run_command(release: Release, device: Device, build: BuildResult, registry: str | None) -> str:
    from pathlib import Path

    image = f"{registry}@{build.image_digest}" if registry else build.image_name
    spec = launch_spec(
        release,
        device,
        image=image,
        weights=Path("/WEIGHTS"),
        name=release.serve.served_name,
        host_port=release.serve.port,
    )
    words = docker_argv(spec.nodes[0])
    return _wrapped(words).replace("source=/WEIGHTS", "source=$WEIGHTS")


def _wrapped(words: tuple[str, ...]) -> str:
    """A long command over several lines, an option with its value on each."""
    lines: list[str] = []
    for word in words:
        quoted = f'"{word}"' if "/WEIGHTS" in word else shlex.quote(word)
        attached = lines and (
            (lines[-1].startswith("-") and " " not in lines[-1] and not word.startswith("-"))
            or (len(lines) == 1 and lines[0] == "docker")
        )
        if attached:
            lines[-1] += f" {quoted}"
        else:
            lines.append(quoted)
    return " \\\n  ".join(lines)


def _request_command(release: Release, smoke: SmokeResult) -> str:
    import json

    text = smoke.sample
    body: dict[str, Any] = {
        "model": release.serve.served_name,
        "prompt": text.prompt if text else "Hello",
        "max_tokens": text.max_tokens if text else release.smoke.max_tokens,
        "temperature": 0,
    }
    return (
        f"curl -s http://127.0.0.1:{release.serve.port}/v1/completions \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(json.dumps(body))}"
    )


def _answer(smoke: SmokeResult) -> str | None:
    return smoke.sample.text if smoke.sample else None
