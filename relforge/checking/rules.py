"""What contradicts itself in manifests that load: each rule says what, where, why and what to do.

A rule speaks only of what the manifests tell: where one says nothing, nothing is concluded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.facts import DeviceQuery
from relforge.manifest.model import Model
from relforge.manifest.places import Keys
from relforge.manifest.release import Release
from relforge.manifest.serve import Serve


@dataclass(frozen=True)
class Contradiction:
    """One thing that is wrong; ``keys`` lead to it in the manifest that the rule is about."""

    keys: Keys
    what: str
    why: str
    hint: str


# What a name says of its weights: the word, and the precisions that it can mean.
_PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "w8a8": ("w8a8", "int8"),
    "wint4": ("int4", "w4a8"),
    "wint8": ("int8",),
    "int4": ("int4",),
    "int8": ("int8", "w8a8"),
    "fp8": ("fp8", "w4a8"),
    "bf16": ("bfloat16",),
    "fp16": ("float16",),
    "fp32": ("float32",),
}
QUANTIZED = ("int4", "int8", "w8a8", "w4a8")
_FLOATS = ("float32", "float16", "bfloat16")
_NEEDS_QUANTIZED_WEIGHTS = ("ascend", "awq", "awq_marlin", "gptq", "gptq_marlin", "slimquant_w4a8")
_READ = {"memory_used": "memory in use, in MiB", "driver": "driver's version"}
_NO_LICENSE = ("", "none", "unknown", "unlicensed", "todo", "tbd", "n/a")
_PERMISSIVE = ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT")


def of_model(model: Model, others: Mapping[str, Model]) -> Iterator[Contradiction]:
    """Licence, base model and precision of a model; ``others`` are all models of the project."""
    if model.license.strip().casefold() in _NO_LICENSE:
        yield Contradiction(
            ("license",),
            f"license {model.license!r} is no licence",
            "nobody may use or pass on weights without one",
            "write its SPDX identifier, such as MIT, and in license_source where it stands",
        )
    yield from _precision(model)
    if (model.base_model is None) != (model.base_model_relation is None):
        said, missing = ("base_model", "base_model_relation")
        if model.base_model is None:
            said, missing = missing, said
        yield Contradiction(
            (said,),
            f"{said} without {missing}",
            "a card that names a base has to say what was done to it",
            f"add {missing}, or remove {said}",
        )
    base = _base_licence(model, others)
    if base is None or base == model.license:
        return
    relation = model.base_model_relation
    # Retraining may be published under terms of its own where the base allows that; quantizing
    # changes no term, and a licence with conditions goes with everything derived.
    if relation in ("quantized", "merge", None) or base not in _PERMISSIVE:
        yield Contradiction(
            ("license",),
            f"the licence {model.license} is not that of the base model: "
            f"{model.base_model} is under {base}",
            f"weights that are {relation or 'derived'} keep the licence of their base",
            f"set license: {base}, or correct base_model",
        )


def _precision(model: Model) -> Iterator[Contradiction]:
    words = re.findall(r"[a-z0-9]+", model.name.casefold())
    for word in words:
        meant = _PRECISIONS.get(word)
        if meant is not None and model.precision not in meant:
            yield Contradiction(
                ("precision",),
                f"precision {model.precision} contradicts the name {model.name}",
                f"{word} in the name says {' or '.join(meant)}",
                "correct precision, or rename the model and its file",
            )
    if model.precision in QUANTIZED and model.base_model_relation != "quantized":
        key = "base_model_relation" if model.base_model_relation else "precision"
        yield Contradiction(
            (key,),
            f"weights in {model.precision} without `base_model_relation: quantized`",
            "nobody trains weights in this precision: they were quantized from others, and the "
            "card has to say so",
            "name base_model, and set base_model_relation: quantized",
        )


def _base_licence(model: Model, others: Mapping[str, Model]) -> str | None:
    if model.base_model is None:
        return None
    for other in others.values():
        names = (other.name, getattr(other.weights, "repository", None))
        if other.name != model.name and model.base_model in names:
            return other.license
    return model.base_license


def of_device(device: Device) -> Iterator[Contradiction]:
    """Patterns that cannot be used, and profiles out of order."""
    if isinstance(device.device_query, DeviceQuery):
        for field, groups in (("count", 0), ("memory_used", 1), ("driver", 1)):
            pattern = getattr(device.device_query, field)
            if pattern in (None, UNKNOWN):
                continue
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                why, bad = str(error), True
            else:
                why = "it needs a group with the " + _READ.get(field, "number")
                bad = compiled.groups < groups
            if bad:
                yield Contradiction(
                    ("device_query", field),
                    f"device_query.{field} cannot be used: {pattern!r}",
                    why,
                    "correct the regular expression (Python's syntax)",
                )
    if device.launch_profiles == UNKNOWN:
        return
    order = ("toolkit", "raw", "privileged")
    names = [profile.name for profile in device.profiles]
    if names != sorted(set(names), key=order.index):
        yield Contradiction(
            ("launch_profiles",),
            f"launch profiles stand in the order {', '.join(names)}",
            "each stands once, least privilege first: the first that works is taken",
            f"order them {', '.join(sorted(set(names), key=order.index))}",
        )
    for number, profile in enumerate(device.profiles):
        if profile.privileged != (profile.name == "privileged"):
            yield Contradiction(
                ("launch_profiles", number),
                f"the launch profile {profile.name} is"
                + ("" if profile.privileged else " not") + " privileged",
                "the name is what people choose by",
                "correct its name, or `privileged`",
            )  # fmt: skip


def of_release(release: Release, device: Device, model: Model) -> Iterator[Contradiction]:
    """Paths, ports, accelerators and precision of a release against its device and model."""
    yield from _paths(release)
    yield from _ports(release)
    yield from _accelerators(release, device)
    yield from _graph(release, model)
    yield from _keys(release, device)
    yield from _stack(release, device)
    yield from _bench(release)
    quantization = release.serve.args.get("quantization")
    if quantization in _NEEDS_QUANTIZED_WEIGHTS and model.precision in _FLOATS:
        yield Contradiction(
            ("serve", "args", "quantization"),
            f"serve.args.quantization {quantization} needs quantized weights",
            f"those of {model.name} are {model.precision}",
            "remove the option, or name the model with quantized weights",
        )
    if release.evaluation is not None and "evaluate" in release.skip:
        yield Contradiction(
            ("skip", "evaluate"),
            "an evaluation is declared and skipped",
            "one of the two is not meant",
            "remove evaluation, or skip.evaluate",
        )
    if (
        release.evaluation is not None
        and model.reference is None
        and not release.evaluation.names_references
    ):
        yield Contradiction(
            ("evaluation",),
            f"an evaluation is declared, and {model.name} has no reference to compare with",
            "the gate compares with recorded answers, question by question",
            "add reference to the model, or remove evaluation and say why under skip.evaluate",
        )


def _bench(release: Release) -> Iterator[Contradiction]:
    bench = release.bench
    if bench is None:
        return
    if "bench" in release.skip:
        yield Contradiction(
            ("skip", "bench"),
            "a benchmark is declared and skipped",
            "one of the two is not meant",
            "remove bench, or skip.bench",
        )
    if release.engine != "vllm":
        yield Contradiction(
            ("bench",),
            f"a benchmark is declared, and the engine is {release.engine!r}",
            "the load comes from vLLM's own `vllm bench serve`, inside the served image",
            "remove bench; what people type against the server stands under client",
        )
    longest = release.serve.args.get("max-model-len")
    wanted = bench.input_tokens + bench.output_tokens
    if isinstance(longest, int) and not isinstance(longest, bool) and wanted > longest:
        yield Contradiction(
            ("bench", "input_tokens"),
            f"{bench.input_tokens} + {bench.output_tokens} tokens do not fit in the context",
            f"serve.args.max-model-len is {longest}, so that answers would be cut short",
            "ask for fewer tokens, or serve a longer context",
        )


def _keys(release: Release, device: Device) -> Iterator[Contradiction]:
    for number, patch_set in enumerate(release.patches):
        sealed = patch_set.path.endswith((".bundle", ".encrypted"))
        if sealed and patch_set.key_contact is None and device.vendor.contact is None:
            yield Contradiction(
                ("patches", number),
                f"nobody is named who hands out the key of {patch_set.name}",
                "it is sealed, and whoever has no key has to know whom to ask",
                "set key_contact there, or vendor.contact of the device",
            )


def _stack(release: Release, device: Device) -> Iterator[Contradiction]:
    compiler = release.build.python.with_stack
    if compiler is None or (release.stack or device.default_stack) not in device.stacks:
        return
    stack = device.on(release.stack).stack
    problem = "package_index is unknown" if stack.package_index == UNKNOWN else None
    try:
        stack.requirements(compiler)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        yield Contradiction(
            ("build", "python", "with_stack"),
            f"the stack {device.on(release.stack).default_stack} of {device.name} cannot be "
            "installed",
            f"its {problem}, and the release asks for it",
            f"ask {device.vendor.contact or device.vendor.name}, and write it into the device "
            "manifest with its source; or leave with_stack out",
        )


def _graph(release: Release, model: Model) -> Iterator[Contradiction]:
    name = release.serve.paddlenlp.static_graph if release.serve.paddlenlp else None
    if name is None:
        return
    at = ("serve", "paddlenlp", "static_graph")
    graph = next((graph for graph in model.static_graphs if graph.name == name), None)
    if graph is None:
        known = ", ".join(one.name for one in model.static_graphs) or "none"
        yield Contradiction(
            at,
            f"{model.name} has no static graph {name}",
            f"its manifest lists {known}",
            "correct the name, or add the graph to static_graphs of the model",
        )
    elif graph.nodes is not None and graph.nodes != release.serve.nodes:
        yield Contradiction(
            at,
            f"the static graph {name} is for {graph.nodes} nodes, and serve.nodes is "
            f"{release.serve.nodes}",
            "a graph is split when it is built",
            "take the graph for that number of nodes, or change serve.nodes",
        )


def _paths(release: Release) -> Iterator[Contradiction]:
    serve = release.serve
    path = serve.model_path.replace("{model}", release.model)
    if serve.command and not any("{model_path}" in word or path in word for word in serve.command):
        yield Contradiction(
            ("serve", "command"),
            "the server is not told where the weights are",
            f"they are mounted at {path}, and no word of serve.command names it",
            "write {model_path} where the server expects the path",
        )
    for number, mount in enumerate(serve.mounts):
        if f"{path.rstrip('/')}/".startswith(f"{mount.container.rstrip('/')}/"):
            yield Contradiction(
                ("serve", "mounts", number, "container"),
                f"the mount {mount.name} lies over the weights, at {mount.container}",
                f"the weights are mounted at {path}: one of the two would be hidden",
                "mount it elsewhere, or change serve.model_path",
            )


def _ports(release: Release) -> Iterator[Contradiction]:
    serve = release.serve
    used: dict[tuple[str, ...], int] = {("serve", "port"): serve.port}
    if serve.nodes > 1:
        used["serve", "rendezvous_port"] = serve.rendezvous_port
    if serve.flagscale is not None and serve.nodes > 1:
        used["serve", "flagscale", "ssh_port"] = serve.flagscale.ssh_port
    if serve.paddlenlp is not None:
        used["serve", "paddlenlp", "health_port"] = serve.paddlenlp.health_port
    for name, value in serve.args.items():
        if name.endswith("-port") and isinstance(value, int) and not isinstance(value, bool):
            used["serve", "args", name] = value
    taken: dict[int, tuple[str, ...]] = {}
    for keys, port in used.items():
        other = taken.setdefault(port, keys)
        if other != keys:
            yield Contradiction(
                keys,
                f"port {port} is used twice: {'.'.join(other)} and {'.'.join(keys)}",
                "both listen on one node",
                "give one of them another port",
            )


def _accelerators(release: Release, device: Device) -> Iterator[Contradiction]:
    for number, serve in enumerate(release.serve.servers):
        at: Keys = ("serve", "groups", number) if release.serve.groups else ("serve",)
        yield from _ranks(release, serve, device, at)


def _ranks(release: Release, serve: Serve, device: Device, at: Keys) -> Iterator[Contradiction]:
    """Of one server of the launch, whose place in the manifest is *at*."""
    per_node = serve.accelerators // serve.nodes
    names = ("tensor_parallel", "pipeline_parallel", "data_parallel")
    product = " x ".join(str(getattr(serve, name)) for name in names)
    key = next((name for name in names if getattr(serve, name) > 1), names[0])
    if isinstance(device.accelerators_per_node, int) and per_node > device.accelerators_per_node:
        yield Contradiction(
            (*at, key),
            f"a node needs {per_node} accelerators, and a node of {device.name} has "
            f"{device.accelerators_per_node}",
            f"tensor x pipeline x data parallel is {product} on {serve.nodes} nodes of "
            f"{release.name}",
            "share the ranks among more nodes, or lower one of the three",
        )
        return
    if device.launch_profiles == UNKNOWN:
        return
    for profile in device.profiles:
        if serve.profile is not None and profile.name != serve.profile:
            continue
        named = _numbered([*profile.devices, *serve.devices])
        # A profile that names its device files one by one has these and no more.
        if any("{index}" in file for file in profile.devices) or not named:
            continue
        if named < per_node:
            yield Contradiction(
                (*at, key),
                f"a node needs {per_node} accelerators, and its container gets {named}",
                f"tensor x pipeline x data parallel is {product} on {serve.nodes} nodes; the "
                f"launch profile {profile.name} of {device.name} names {named} device files",
                "name more device files in serve.devices, or share the ranks among more nodes",
            )


def _numbered(files: list[str]) -> int:
    """How many devices a list of device files names: the longest run of one name with numbers."""
    counts: dict[str, set[str]] = {}
    for file in files:
        if found := re.fullmatch(r"(/dev/[A-Za-z/_-]+)(\d+)", file.split(":")[0]):
            counts.setdefault(found[1], set()).add(found[2])
    return max((len(numbers) for numbers in counts.values()), default=0)
