"""The record against the image and the files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relforge.verifying.files import Files, at
from relforge.verifying.image import ImageSeen
from relforge.verifying.measured import shown
from relforge.verifying.report import Outcome, judged

_STAGES = ("smoke", "evaluate", "bench", "coverage", "sbom", "scan")


def record(files: Files, record: Mapping[str, Any], image: ImageSeen) -> Outcome:
    """The record is about this very image and these evidence files."""
    wanted = at(record, "image_digest")
    if wanted != image.digest:
        return judged([f"the record is about {wanted}, here is {image.digest}"], "")
    problems = [*_image(record, image), *_labels(record, image), *_evidence(files, record)]
    problems += _verdicts(record)
    labels = at(record, "results", "build", "labels")
    count = sum(len(entries) for entries in at(record, "evidence").values())
    return judged(
        problems, f"image, {len(labels)} labels and {count} evidence files are the record's"
    )


def _image(record: Mapping[str, Any], image: ImageSeen) -> Iterator[str]:
    build = at(record, "results", "build")
    config = build.get("config_digest")
    configs = [part.config for part in image.parts]
    if config is not None and configs and config not in configs:
        yield f"the record's image has the config {config}, this one {' '.join(configs)}"
    layers = build.get("layers")
    for part in image.tested(record):
        if layers is not None and list(layers) != list(part.layers):
            other = next((b for b in part.layers if b not in layers), "their order")
            yield f"the image's layers are not the record's: {other}"
    recorded = {one["platform"]: one["digest"] for one in build.get("platforms") or ()}
    found = {part.platform: part.digest for part in image.parts} if image.is_index else {}
    for platform in sorted({*recorded, *found}):
        one, other = recorded.get(platform, "none"), found.get(platform, "none")
        if one != other:
            yield f"for {platform} the record has the image {one}, here is {other}"
    named = build.get("image_digest")
    if named is not None and named != image.digest:
        yield f"the record's build made {named}, here is {image.digest}"


def _labels(record: Mapping[str, Any], image: ImageSeen) -> Iterator[str]:
    recorded = at(record, "results", "build", "labels")
    for part in image.tested(record):
        labels = part.labels
        of = f" ({part.platform})" if image.is_index else ""
        for name in sorted({*recorded, *labels}):
            if recorded.get(name) != labels.get(name):
                yield (
                    f"label {name}{of}: the record has {shown(recorded.get(name))}, the image "
                    f"{shown(labels.get(name))}"
                )
        lock = labels.get("org.relforge.lock")
        if lock is not None and lock != record.get("lock_sha256"):
            yield f"the image{of} is labelled with the lock {lock}, the record has another"
        named = labels.get("org.relforge.release")
        if named is not None and record.get("release") not in (None, named):
            yield f"the image{of} is labelled as {named}, the record is of {record.get('release')}"


def _evidence(files: Files, record: Mapping[str, Any]) -> Iterator[str]:
    recorded = {
        entry["sha256"]: f"{stage}: {entry['file']}"
        for stage, entries in at(record, "evidence").items()
        for entry in entries
    }
    published: dict[str, str] = {}
    for name in files.names:
        if name.startswith("evidence/"):
            try:
                published[files.sha256(name)] = name
            except (OSError, ValueError) as error:
                yield f"{name} cannot be read: {error}"
    for digest, name in recorded.items():
        if digest not in published:
            yield f"the record names evidence that is not there: {name}"
    for digest, name in sorted(published.items(), key=lambda row: row[1]):
        if digest not in recorded:
            yield f"{name} is not the evidence that the record names"


def _verdicts(record: Mapping[str, Any]) -> Iterator[str]:
    """The short list of verdicts against the results that it is drawn from."""
    verdicts = record.get("verdicts") or {}
    results = at(record, "results")
    for stage in _STAGES:
        result = results.get(stage)
        found = result.get("verdict") if isinstance(result, Mapping) else None
        if found is not None and stage in verdicts and verdicts[stage] != found:
            yield f"the record gives {stage} as {verdicts[stage]}, and its result is {found}"
        if stage in verdicts and result is None and verdicts[stage] == "pass":
            yield f"the record gives {stage} as pass, and has no result of it"
