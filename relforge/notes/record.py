"""What release notes read of a release record. Records of other versions may have more, or less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from relforge.building.layers import BuiltLayer
from relforge.errors import ExitCode, RelforgeError
from relforge.publishing.published import RECORD


class _Part(BaseModel):
    """A part of a record: what notes do not read is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Source(_Part):
    """A pinned source; ``identity`` is ``package==version`` or ``url@commit``."""

    kind: str
    identity: str
    sha256: str | None = None
    commit: str | None = None
    tree: str | None = None


class PatchSet(_Part):
    """A patch set: name and hash of each patch, in order."""

    source: str
    result_tree: str | None = None
    patches: tuple[tuple[str, str], ...] = ()


class OthersImage(_Part):
    """An image of somebody else's that the lock pins."""

    reference: str
    digest: str


class Lock(_Part):
    """The lock, as the record has it."""

    sources: dict[str, Source] = {}
    patches: dict[str, PatchSet] = {}
    image: OthersImage | None = None


class Platform(_Part):
    """One architecture of an image for several."""

    platform: str
    digest: str


class Build(_Part):
    """The built image; sizes are bytes."""

    image_name: str | None = None
    image_digest: str | None = None
    platforms: tuple[Platform, ...] = ()
    """The first is the one that was tested; empty for an image of one architecture."""
    config_digest: str | None = None
    compressed_bytes: int | None = None
    unpacked_bytes: int | None = None
    layer_sizes: tuple[BuiltLayer, ...] = ()
    base_how: str | None = None
    base_digest: str | None = None
    python: str | None = None
    python_packages: dict[str, str] = {}
    debian_packages: dict[str, str] = {}
    pip_check: tuple[str, ...] = ()


class Task(_Part):
    """One evaluated task. Percentages are of right answers; intervals and margins are points."""

    task: str
    metric: str
    n: int | None = None
    result_percent: float
    result_correct: float | None = None
    reference_percent: float | None = None
    difference_points: float | None = None
    interval_points: tuple[float, float] | None = None
    confidence: float | None = None
    margin_points: float | None = None
    conclusion: str | None = None


class Percentile(_Part):
    """``p`` percent of the observations took at most so long."""

    p: float
    ms: float


class Latency(_Part):
    """A latency, in milliseconds."""

    mean_ms: float
    percentiles: tuple[Percentile, ...] = ()


class Figures(_Part):
    """One level of a ladder of loads."""

    concurrency: int
    prompts: int
    request_per_s: float
    output_tokens_per_s: float
    ttft: Latency
    itl: Latency


class Surroundings(_Part):
    """Cores that others kept busy meanwhile; None: not known."""

    other_cores: float | None = None


class Level(_Part):
    """A level with what went on beside it."""

    figures: Figures
    surroundings: Surroundings = Surroundings()


class Machine(_Part):
    """The host that served."""

    processor: str
    cores: int
    memory_bytes: int | None = None


class BenchSettings(_Part):
    """How it was measured."""

    bench: dict[str, Any]
    tool: str
    tool_version: str


class Bench(_Part):
    """A measured ladder of loads."""

    settings: BenchSettings
    machine: Machine
    levels: tuple[Level, ...] = ()


class Coverage(_Part):
    """Operators and calls that were counted, and shares in percent."""

    operators: int
    calls: int
    shares: dict[str, Any] = {}


class Record(_Part):
    """A release record, and the folder that it was read from where that is a published one."""

    release: str
    model: str
    device: str
    image_digest: str
    created: str | None = None
    run: str | None = None
    verdicts: dict[str, str] = {}
    skipped: dict[str, str] = {}
    lock: Lock = Lock()
    build: Build = Build()
    tasks: tuple[Task, ...] = ()
    asked: dict[str, Any] = {}
    """By task: what decides the questions, as the inputs of the evaluation have it."""
    bench: Bench | None = None
    coverage: Coverage | None = None
    serving: dict[str, Any] = {}
    """Engine and serving settings of the release's manifest."""
    weights: dict[str, Any] = {}
    """The files of the model by path and hash, with the revision where a hub has them."""
    base_reference: str | None = None
    evidence: dict[str, Any] = {}
    folder: Path | None = None


def read_record(path: Path) -> Record:
    """Reads ``release.json``, or the folder that it lies in. Raises RelforgeError (USAGE)."""
    file = path / RECORD if path.is_dir() else path
    try:
        parsed = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _refused(file, why or str(error)) from error
    return record_of(parsed, where=str(file), folder=file.parent)


def record_of(parsed: object, *, where: str, folder: Path | None = None) -> Record:
    """The record that was read from *where*. Raises RelforgeError (USAGE)."""
    if not isinstance(parsed, dict):
        raise _refused(Path(where), "it holds no JSON object")
    results, inputs = _dict(parsed, "results"), _dict(parsed, "inputs")
    release = next((found for name in inputs if (found := _at(inputs, name, "release"))), {})
    names = _dict(parsed, "names")
    labels = _dict(_dict(results, "build"), "labels")
    weights = _at(inputs, "weights")
    files = weights.pop("files", None) or []
    try:
        return Record.model_validate(
            {
                **{key: parsed[key] for key in _PLAIN if parsed.get(key) is not None},
                "model": names.get("model") or release.get("model"),
                "device": names.get("device")
                or release.get("device")
                or labels.get("org.relforge.device"),
                "build": _dict(results, "build"),
                "tasks": _dict(results, "evaluate").get("tasks") or (),
                "asked": {
                    (task.get("file") or task["named"])["name"]: {
                        key: task.get(key) for key in ("file", "named")
                    }
                    for task in _at(inputs, "evaluate").get("tasks") or ()
                },
                "bench": _dict(results, "bench").get("report"),
                "coverage": results.get("coverage"),
                "serving": {
                    key: release[key] for key in ("engine", "variant", "serve") if key in release
                },
                "weights": {
                    **{key: value for key, value in weights.items() if key in _OF_WEIGHTS},
                    **{file["path"]: file.get("sha256") for file in files},
                },
                "base_reference": _base_reference(inputs),
                "folder": folder,
            }
        )
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise _refused(Path(where), _reasons(error)) from error


_PLAIN = ("release", "image_digest", "created", "run", "verdicts", "skipped", "lock", "evidence")
_OF_WEIGHTS = ("repository", "revision")


def _dict(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def _at(inputs: dict[str, Any], stage: str, *keys: str) -> dict[str, Any]:
    found = _dict(_dict(inputs, stage), "values")
    for key in keys:
        found = _dict(found, key)
    return found


def _base_reference(inputs: dict[str, Any]) -> str | None:
    registry = _at(inputs, "build", "base", "registry")
    if not registry.get("reference"):
        return None
    digest = registry.get("digest")
    return f"{registry['reference']}@{digest}" if digest else str(registry["reference"])


def _reasons(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]
        )
    return f"{type(error).__name__}: {error}"


def _refused(file: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "this is no release record",
        code=ExitCode.USAGE,
        where=str(file),
        why=why,
        hint="name a release.json, or the folder of a published release, such as dist/RELEASE",
    )
