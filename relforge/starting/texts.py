"""Manifests as text: what was answered, and in comments what a person may have to fill in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from relforge.frozen import Frozen
from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.source import SourceSpec

_MANIFESTS = "docs/manifests.md"


class NewModel(Frozen):
    """What is answered of a model; ``weights`` is that section as a manifest has it."""

    name: str
    title: str
    summary: str
    license: str
    license_source: str
    architecture: str
    parameters: int
    precision: str
    base_model: str | None = None
    base_model_relation: str | None = None
    base_license: str | None = None
    languages: tuple[str, ...] = ()
    weights: dict[str, Any]


class NewSource(Frozen):
    """The tree that the engine is built of."""

    name: str
    distribution: str
    spec: SourceSpec


class NewImage(Frozen):
    """Somebody else's image that is taken as it is; ``source`` says so."""

    reference: str
    digest: str
    source: str


class NewTask(Frozen):
    """A task of the project, and how many questions it has."""

    path: str
    questions: int


class NewRelease(Frozen):
    """What is answered of a release."""

    name: str
    model: str
    device: str
    engine: str
    variant: str | None = None
    stack: str | None = None
    title: str
    image: NewImage | None = None
    source: NewSource | None = None
    command: tuple[str, ...] = ()
    served_name: str
    port: int = 8000
    tensor_parallel: int = 1
    data_parallel: int = 1
    nodes: int = 1
    task: NewTask | None = None


def model_text(model: NewModel, schemas: str) -> str:
    """The manifest of a model; ``schemas`` is where editors find its schema."""
    rows = [
        *_head("model", schemas),
        *_pairs(model.model_dump(include={"name", "title", "summary"})),
        *_pairs(model.model_dump(include={"license", "license_source"})),
        *_pairs(model.model_dump(include={"architecture", "parameters", "precision"})),
        *_pairs(
            {
                name: value
                for name in ("base_model", "base_model_relation", "base_license")
                if (value := getattr(model, name)) is not None
            }
        ),
        *([f"languages: {scalar(list(model.languages))}"] if model.languages else []),
        "weights:",
        *_weights(model.name, model.weights),
        "# A reference makes the evaluation gate possible: a file with its answers, question by",
        "# question, pinned by hash. Fill in once it is measured:",
        "# reference: {task: NAME, path: FOLDER/reference.json, sha256: 64 HEXADECIMAL DIGITS}",
        "# Figures that others published of it stand in manifests/references/, with their source.",
    ]
    return "\n".join(rows) + "\n"


def release_text(release: NewRelease, device: Device, schemas: str) -> str:
    """The manifest of a release on *device*, which stands on the release's stack."""
    rows = [
        *_head("release", schemas),
        *_pairs(release.model_dump(include={"name", "model", "device"})),
        *_pairs(release.model_dump(include={"stack", "variant"}, exclude_none=True)),
        *_pairs(release.model_dump(include={"engine", "title"})),
        "",
        *_made_of(release, device),
        "",
        *_serve(release),
        "",
        *_evaluation(release),
    ]
    return "\n".join(rows) + "\n"


def scalar(value: Any) -> str:
    """A value on one line, as YAML has it behind a key."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def _head(kind: str, schemas: str) -> list[str]:
    return [
        f"# yaml-language-server: $schema={schemas}{kind}.schema.json",
        f"# Made by `relforge init`, yours from here on; {_MANIFESTS} says what may stand here.",
        f"kind: {kind}",
    ]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {scalar(value)}" for name, value in values.items()]


def _weights(name: str, weights: Mapping[str, Any]) -> Iterable[str]:
    yield from (f"  {key}: {scalar(value)}" for key, value in weights.items() if key != "files")
    files = weights.get("files")
    if files:
        yield "  files:"
        yield from (f"    {scalar(path)}: {scalar(pin)}" for path, pin in files.items())
    elif weights.get("revision") == UNRESOLVED:
        yield "  # Nothing is fetched before revision and files are pinned, which this does:"
        yield f"  # relforge weights pin --model {name} --write"
    elif weights["kind"] == "on-request":
        yield "  # Without hashes nobody can tell whether they are the right ones. Fill in:"
        yield "  # files: {PATH: {sha256: 64 HEXADECIMAL DIGITS, size_bytes: NUMBER}}"


def _made_of(release: NewRelease, device: Device) -> Iterable[str]:
    if (image := release.image) is not None:
        yield "# Nothing is built: this image is released as it is."
        yield "build:"
        yield "  image:"
        yield "    registry:"
        yield f"      reference: {scalar(image.reference)}"
        if image.digest == UNRESOLVED:
            yield "      # Fill in once known; until then the lock holds what the registry says."
        yield f"      digest: {scalar(image.digest)}"
        yield f"    source: {scalar(image.source)}"
        return
    yield from _sources(release, device)
    yield "# Patch sets, each for one source (docs/patches.md):"
    yield "# patches: [{name: NAME, source: SOURCE, path: patches/NAME}]"
    yield ""
    yield from _build(release, device)


def _sources(release: NewRelease, device: Device) -> Iterable[str]:
    yield "# Upstream trees, each pinned by commit or hash."
    for way in device.vllm if release.engine in ("vllm", "flagscale") else ():
        yield f"# vLLM on {device.name} is had so ({way.how}): {way.what} [{way.source}]"
    if release.source is None:
        yield "# None yet: the image then has what its base brings. Fill in one of these forms:"
        yield "# sources:"
        yield "#   vllm: {kind: git, url: 'https://HOST/vllm.git', commit: 40 HEXADECIMAL DIGITS}"
        yield "#   vllm: {kind: archive, package: vllm, version: VERSION, sha256: 64 DIGITS}"
        return
    yield "sources:"
    yield f"  {release.source.name}:"
    spec = release.source.spec.model_dump(mode="json", exclude_none=True)
    yield from (f"    {name}: {scalar(value)}" for name, value in spec.items())


def _build(release: NewRelease, device: Device) -> Iterable[str]:
    source = release.source
    if source is None:
        yield "build:"
        yield "  packages: []"
        yield "  # - {source: vllm, distribution: vllm, native: {mode: none}}"
    else:
        prebuilt = source.spec.kind == "wheel"
        yield "build:"
        yield "  packages:"
        yield f"    - source: {scalar(source.name)}"
        yield f"      distribution: {scalar(source.distribution)}"
        if prebuilt:
            yield "      prebuilt: true"
        else:
            yield "      # `compiled` (with reads and commands) or `precompiled` (with a wheel)"
            yield "      # where it has native code."
        yield "      native: {mode: none}"
    yield "  python:"
    yield from _with_stack(device, asked=source is not None)
    yield "    # What the packages need beside it, as pip writes it; the lock pins each by hash."
    yield "    requirements: []"


def _with_stack(device: Device, *, asked: bool) -> Iterable[str]:
    """The device's own torch: installed where *asked*, and where all of it is known."""
    stack = device.stack
    try:
        packages = ", ".join(stack.requirements("triton"))
    except ValueError as error:
        yield f"    # with_stack: triton   # the stack {device.default_stack} does not say: {error}"
        return
    if stack.package_index == UNKNOWN:
        yield f"    # with_stack: triton   # nobody tells where {packages} is published"
        return
    where = "" if stack.package_index == "default" else f", from {stack.package_index}"
    yield f"    # The stack {device.default_stack} has {packages}{where}:"
    # Where the base brings an environment of its own, they are in it already.
    yield f"    {'' if asked and stack.environment is None else '# '}with_stack: triton"


def _serve(release: NewRelease) -> Iterable[str]:
    yield "serve:"
    yield f"  port: {release.port}"
    yield f"  served_name: {scalar(release.served_name)}"
    if release.command:
        yield f"  command: {scalar(list(release.command))}"
    else:
        yield "  # Options of the engine's server without their dashes: max-model-len: 4096."
        yield "  args: {}"
    if release.tensor_parallel > 1:
        yield f"  tensor_parallel: {release.tensor_parallel}"
    if release.data_parallel > 1:
        yield f"  data_parallel: {release.data_parallel}"
    if release.nodes > 1:
        yield f"  nodes: {release.nodes}"
        yield "  # Ranks of several nodes talk on ports that they choose themselves."
        yield "  network: host"
    yield "  shm_bytes: 1073741824"
    yield "  ready_timeout_s: 600"


def _evaluation(release: NewRelease) -> Iterable[str]:
    if release.task is not None:
        yield "evaluation:"
        yield f"  task: {scalar(release.task.path)}"
        yield f"  questions: {release.task.questions}"
        yield "  # Points that it may lie below the reference; declared before the run."
        yield "  margin_points: 2"
        return
    yield "# Without an evaluation nobody knows how good it is. Fill in with a task of the project,"
    yield "# once the model has a reference, and remove the line below `skip`:"
    yield "# evaluation: {task: FOLDER/task.yaml, questions: NUMBER, margin_points: 2}"
    yield "skip:"
    yield "  evaluate: no task and reference were chosen yet"
