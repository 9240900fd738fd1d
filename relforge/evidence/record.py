"""The release record, ``release.json``: what went in, what came out, how each stage ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import relforge
from relforge.errors import RelforgeError
from relforge.events import ReleaseState, StageStatus, Verdict
from relforge.evidence.runs import ReleaseRun
from relforge.evidence.store import Record, Store
from relforge.files import write_atomic
from relforge.frozen import Frozen, content_key
from relforge.manifest.device import Device
from relforge.manifest.release import Release
from relforge.manifest.revision import revision_of
from relforge.plan import ReleasePlan
from relforge.stage import StageResult

FILE_NAME = "release.json"
EVIDENCE = ("render", "smoke", "evaluate", "bench", "coverage", "sbom", "scan", "attest")
"""Stages whose outputs are evidence."""
_OF_THIS_HOST = ("preflight", "sources")
"""Stages whose results are about the host alone, with its paths."""


class StageOutput(Frozen):
    """One stage of a run. ``seconds`` is wall time in this run."""

    name: str
    status: StageStatus
    seconds: float


class ReleaseOutput(Frozen):
    """What ``relforge release --json`` prints; stable. ``dist`` is the release folder."""

    release: str
    run: str
    image_digest: str | None
    verdicts: dict[str, Verdict]
    stages: tuple[StageOutput, ...]
    dist: str | None
    state: ReleaseState = "done"
    exit_code: int | None = None
    error: str | None = None
    """Why it failed: what, where and why."""
    next: str | None = None
    """The command that goes on from there."""


class NotStarted(Frozen):
    """A release that could not be planned, so that it has no run."""

    release: str
    error: str
    where: str | None
    exit_code: int

    @classmethod
    def of(cls, release: str, error: RelforgeError) -> NotStarted:
        what = ": ".join(part for part in (error.what, error.why) if part)
        return cls(release=release, error=what, where=error.where, exit_code=int(error.code))


class ReleasesOutput(Frozen):
    """What ``relforge release --json`` prints for several releases; stable."""

    releases: tuple[ReleaseOutput, ...]
    not_started: tuple[NotStarted, ...] = ()


def summary(
    run_id: str, entry: ReleaseRun, results: dict[str, StageResult], dist: Path
) -> ReleaseOutput:
    """The stable summary of one release in a run."""
    return ReleaseOutput(
        release=entry.release,
        run=run_id,
        image_digest=getattr(results.get("build"), "image_digest", None),
        verdicts={s.name: s.verdict for s in entry.stages if s.verdict is not None},
        stages=tuple(
            StageOutput(name=s.name, status=s.status, seconds=s.seconds) for s in entry.stages
        ),
        dist=str(dist / entry.release) if "publish" in results else None,
        state=entry.state,
        exit_code=entry.exit_code,
        error=entry.error,
        next=entry.next,
    )


def write_record(
    plan: ReleasePlan,
    run_id: str,
    entry: ReleaseRun,
    results: dict[str, StageResult],
    *,
    dist: Path,
    store: Store,
) -> Path | None:
    """Writes ``dist/<release>/release.json`` after a run that published; returns its path.

    A run that reused everything leaves the record of the run that did the work.
    """
    path = dist / plan.name / FILE_NAME
    if "publish" not in results:
        return None
    worked = any(s.status == "ran" for s in entry.stages)
    if path.exists() and not worked:
        return path
    lock = plan.subject.lock
    revision = revision_of(plan.subject.project.root)
    record = {
        **summary(run_id, entry, results, dist).model_dump(mode="json"),
        "dist": ".",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "relforge": relforge.__version__,
        "project": revision.model_dump() if revision else None,
        "names": names_of(plan.subject.release, plan.subject.device),
        "lock_sha256": content_key(lock),
        "lock": lock.model_dump(mode="json", exclude={"wheels", "build_wheels"}),
        "timings": _timings(plan, store),
        "inputs": {
            stage.name: {
                "key": stage.key,
                "values": plan.inputs[stage.name].model_dump(mode="json"),
            }
            for stage in plan.stages
            if stage.key is not None and stage.name in plan.inputs
        },
        "skipped": {s.name: s.because for s in plan.stages if s.status == "skip"},
        "evidence": {
            name: [
                {"file": output.path.name, "sha256": output.sha256, "bytes": output.size_bytes}
                for output in result.outputs
            ]
            for name, result in results.items()
            if name in EVIDENCE
        },
        "results": {
            name: _portable(result) for name, result in results.items() if name not in _OF_THIS_HOST
        },
    }
    write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
    return path


def names_of(release: Release, device: Device) -> dict[str, str]:
    """Values of the placeholders that publishing targets may use."""
    return {
        "release": release.name,
        "model": release.model,
        "device": release.device,
        "vendor": device.vendor.name,
        "variant": release.variant or "default",
    }


def _timings(plan: ReleasePlan, store: Store) -> dict[str, float]:
    """Seconds that each stage took when it really ran, in whichever run that was."""
    found: dict[str, float] = {}
    for stage in plan.stages:
        if stage.key is not None:
            record = store.lookup(stage.name, stage.key)
            if isinstance(record, Record):
                found[stage.name] = round(record.seconds, 3)
    return found


def _portable(result: StageResult) -> dict[str, Any]:
    """A result without the paths of the host it ran on."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [strip(v) for v in value]
        return value.name if isinstance(value, Path) else value

    data = strip(result.model_dump(mode="python", exclude={"outputs", "rebuild"}))
    assert isinstance(data, dict)
    return json.loads(json.dumps(data, default=str))  # type: ignore[no-any-return]
