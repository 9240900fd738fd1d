"""From the material to what a card says; no figure has another origin."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.card.metadata import metadata_of
from relforge.card.model import CardData, Code, Row, Said
from relforge.card.parts.addresses import mail
from relforge.card.parts.image import (
    all_licenses,
    environment_rows,
    image_rows,
    part_licenses,
    patch_rows,
    source_rows,
    verify_image,
    verify_signature,
)
from relforge.card.parts.limits import limits, unpinned
from relforge.card.parts.material import Material
from relforge.card.parts.running import steps
from relforge.card.parts.scores import reported_tables
from relforge.manifest.common import UNKNOWN
from relforge.ui.text import size

ENGINES = {
    "vllm": "vLLM",
    "flagscale": "FlagScale",
    "sglang": "SGLang",
    "paddlenlp": "PaddleNLP",
    "command": "a server of its own",
}
_SWITCHES = ("USE_FLAGGEMS", "VLLM_USE_FLAGGEMS")


def gather(material: Material) -> CardData:
    """The card of one release. Values that nobody measured are absent, not guessed.

    Raises RelforgeError (GATE) where licence or base model of the metadata contradict each other.
    """
    release, device, model, build = (
        material.release,
        material.device,
        material.model,
        material.build,
    )
    prerequisites = device.host_prerequisites
    return CardData(
        title=release.title,
        summary=model.summary,
        release=release.name,
        model=model.title,
        precision=model.precision,
        parameters=model.parameters,
        device=device.name,
        device_title=device.title,
        engine=ENGINES[release.engine],
        features=tuple(_features(material)),
        built=build is not None,
        summary_rows=tuple(_summary(material)),
        triton=tuple(Row(name=r.name, value=Said.plain(r.value)) for r in material.coverage),
        triton_missing=None if material.coverage else _no_coverage(material),
        image=image_rows(material),
        verify_image=verify_image(material),
        verify_signature=verify_signature(material),
        environment=environment_rows(material),
        accepted_complaints=tuple(
            Row(name=c.complaint, value=Said.plain(c.reason))
            for c in (release.build.python.pip_check_exceptions if build else ())
        ),
        sources=source_rows(material),
        patches=patch_rows(material),
        evaluation=material.evaluation,
        reported=reported_tables(material),
        performance=material.performance,
        host=() if prerequisites == UNKNOWN else prerequisites,
        steps=steps(material),
        limits=limits(material),
        contact=tuple(_contact(material)),
        license=model.license,
        license_source=model.license_source,
        part_licenses=part_licenses(material),
        all_licenses=all_licenses(material),
        lock_sha256=material.lock_sha256,
        all_pinned=not unpinned(material),
        reproduce=tuple(_reproduce(material)),
        metadata=metadata_of(material),
    )


def _features(material: Material) -> Iterator[Said]:
    release, build = material.release, material.build
    packages = build.python_packages if build else {}
    versions = {name.replace("-", "_").casefold(): v for name, v in packages.items()}
    engine = ENGINES[release.engine]
    version = versions.get({"flagscale": "flag_scale"}.get(release.engine, release.engine))
    if release.engine == "command":
        yield Said(text="A server of its own serves the model, with an API like OpenAI's.")
    else:
        yield Said(
            text="%(engine)s serves the model, with an API like OpenAI's.",
            values={"engine": f"{engine} {version}" if version else engine},
        )
    if build is not None:
        yield Said(text="A prebuilt image, identified by its digest.")
    elif release.build.image is not None:
        yield Said(text="Its maker's own image, taken as it is.")
    for name, locked in material.patches.items():
        yield Said(
            text="The patch set `%(name)s` adapts `%(source)s` to the device.",
            values={"name": name, "source": locked.source},
        )
    switch = next((s for s in _SWITCHES if s in release.serve.env), None)
    if switch is not None:
        yield Said(
            text="FlagGems' Triton operators, switched on by `%(switch)s` in the start command.",
            values={"switch": f"{switch}={release.serve.env[switch]}"},
        )
    if material.evaluation:
        yield Said(text="An evaluation against a reference, with every answer kept.")
    if material.performance is not None:
        yield Said(text="Latency and throughput, measured under load.")


def _summary(material: Material) -> Iterator[Row]:
    release, device, model = material.release, material.device, material.model
    serve = release.serve
    what = {"model": model.title, "precision": model.precision}
    if model.parameters > 1:
        text = "%(model)s, %(parameters)s parameters, %(precision)s"
        yield Row(
            name="Model",
            value=Said(text=text, values={**what, "parameters": f"{model.parameters:,}"}),
        )
    else:
        yield Row(name="Model", value=Said(text="%(model)s, %(precision)s", values=what))
    if model.base_model is not None and model.base_model_relation is not None:
        yield Row(
            name="Weights made from",
            value=Said(
                text="`%(base)s` (%(relation)s)",
                values={"base": model.base_model, "relation": model.base_model_relation},
            ),
        )
    yield Row(name="Device", value=Said.plain(f"{device.title} (`{device.name}`)"))
    if serve.flagscale is not None and serve.flagscale.tree_config is not None:
        yield Row(
            name="Accelerators",
            value=Said(text="as FlagScale's configuration of the model in the image says"),
        )
    elif device.accelerator:
        count = serve.accelerators
        yield Row(
            name="Accelerators",
            value=Said(
                text="%(count)d on %(nodes)d nodes" if serve.nodes > 1 else "%(count)d",
                values={"count": count, "nodes": serve.nodes},
            ),
        )
    elif serve.nodes > 1:
        yield Row(name="Nodes", value=Said.plain(serve.nodes))
    parallel = [
        (name, size_)
        for name, size_ in (
            ("tensor", serve.tensor_parallel),
            ("pipeline", serve.pipeline_parallel),
            ("data", serve.data_parallel),
        )
        if size_ > 1
    ]
    if parallel:
        yield Row(
            name="Parallel",
            value=Said.plain(", ".join(f"{name} {number}" for name, number in parallel)),
        )
    length = serve.args.get("max-model-len")
    if length is not None:
        yield Row(
            name="Longest context",
            value=Said(text="%(count)s tokens", values={"count": str(length)}),
        )
    yield Row(name="Serving engine", value=Said.plain(ENGINES[release.engine]))
    yield Row(name="Name of the model in requests", value=Said.plain(f"`{serve.served_name}`"))
    if material.smoke is not None:
        yield from _served(material)


def _served(material: Material) -> Iterator[Row]:
    smoke = material.smoke
    assert smoke is not None
    report = smoke.report
    yield Row(
        name="Smoke test",
        value=Said(
            text="%(verdict)s: %(passed)d of %(all)d probes",
            values={
                "verdict": smoke.verdict or report.verdict,
                "passed": sum(p.verdict == "pass" for p in report.probes),
                "all": len(report.probes),
            },
        ),
    )
    if report.start_to_ready_s is not None:
        yield Row(name="Start to ready", value=Said.plain(f"{report.start_to_ready_s:.0f} s"))
    if report.first_token_ms is not None:
        yield Row(
            name="First token, in the smoke test",
            value=Said.plain(f"{report.first_token_ms:.0f} ms"),
        )
    if report.tokens_per_s is not None:
        yield Row(
            name="Tokens per second, in the smoke test",
            value=Said.plain(f"{report.tokens_per_s:.0f}"),
        )
    if report.memory_peak_bytes is not None:
        yield Row(name="Memory, peak", value=Said.plain(size(report.memory_peak_bytes)))


def _no_coverage(material: Material) -> Said:
    reason = material.why_not.get("coverage")
    if reason is not None:
        return Said(text="The share was not measured: %(reason)s.", values={"reason": reason})
    return Said(text="The share was not measured.")


def _contact(material: Material) -> Iterator[Said]:
    vendor, release, weights = (
        material.device.vendor,
        material.release,
        material.model.weights,
    )
    image = release.build.image
    asked = image.on_request if image is not None else None
    if asked is not None:
        yield Said(
            text="The image: write to %(contact)s; ask for %(what)s.",
            values={"contact": mail(asked.contact), "what": asked.ask_for},
        )
    if weights.kind == "on-request":
        yield Said(
            text="The weights: write to %(contact)s; ask for %(what)s.",
            values={"contact": mail(weights.contact), "what": weights.ask_for},
        )
    if vendor.contact is not None:
        yield Said(
            text="The device and its software: %(contact)s.",
            values={"contact": mail(vendor.contact)},
        )


def _reproduce(material: Material) -> Iterator[Code]:
    keys = " --key-path KEYS" if material.sealed else ""
    yield Code(
        text=f"relforge release --release {material.release.name}{keys}",
        step="reproduce",
        needs=("network", "secret") if material.sealed else ("network",),
        title=Said(text="Make it again, from the same sources, to the same gates:"),
    )
    if material.build is not None:
        yield Code(
            text="relforge verify .",
            step="verify",
            title=Said(
                text="Check image, evidence and record of this folder against one another, offline:"
            ),
        )
