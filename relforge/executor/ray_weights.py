"""Weights on a worker: those of its own site where they are the same files, else what is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from relforge.errors import ExitCode
from relforge.executor.ray_host import Unfit
from relforge.executor.ray_paths import outputs_in
from relforge.files import Output, altered, write_atomic
from relforge.frozen import content_key
from relforge.manifest.site import Site
from relforge.stage import Job, StageContext, StageResult
from relforge.ui.text import size
from relforge.weights.folder import pinned_files

_OUTPUTS: TypeAdapter[tuple[Output, ...]] = TypeAdapter(tuple[Output, ...])


class OwnWeights(NamedTuple):
    """The result of the stage ``weights`` as it was sent, and as this host's own folder has it."""

    told: StageResult
    here: StageResult


def own_weights(job: Job[Any], site: Site, home: Path, ctx: StageContext) -> OwnWeights | None:
    """The weights in the folder that this worker's site names for the model; None: they are sent.

    Raises RelforgeError (SOURCE) when that folder holds other files.
    """
    told = job.upstream.get("weights")
    release = getattr(job.inputs, "release", None)
    if told is None or not isinstance(release, Mapping):
        return None
    folder = site.weights.get(str(release.get("model")))
    if folder is None:
        return None
    top: Path = getattr(told, "folder")  # noqa: B009 (a result of `weights`, which is not imported)
    hashes = {str(o.path.relative_to(top)): o.sha256 for o in outputs_in(told)}
    outputs = _known(folder, hashes, home)
    if outputs is None:
        outputs = _hashed(folder, hashes, home, ctx, str(release["model"]))
    return OwnWeights(told, told.model_copy(update={"folder": folder, "outputs": outputs}))


def refuse_too_large(result: StageResult | None, site: Site) -> None:
    """Raises Unfit (SOURCE) for weights that are not sent."""
    if result is None:
        return
    total = sum(output.size_bytes for output in outputs_in(result))
    if total > site.ray.largest_weights_bytes:
        raise Unfit(
            "the weights are too large to be sent to a worker",
            code=ExitCode.SOURCE,
            why=f"{size(total)}; at most {size(site.ray.largest_weights_bytes)} go over",
            hint="name a folder that holds them under weights in the worker's site "
            "configuration, or raise ray.largest_weights_bytes",
        )


def _note(folder: Path, hashes: Mapping[str, str], home: Path) -> Path:
    key = content_key({"folder": str(folder), "hashes": dict(hashes)})
    return home / "ray" / "weights" / f"{key}.json"


def _known(folder: Path, hashes: Mapping[str, str], home: Path) -> tuple[Output, ...] | None:
    """What was hashed before, while nothing of it changed."""
    note = _note(folder, hashes, home)
    try:
        known = _OUTPUTS.validate_json(note.read_bytes())
        os.utime(note)  # it is in use
    except (OSError, ValidationError):
        return None
    return known if all(altered(one) is None for one in known) else None


def _hashed(
    folder: Path, hashes: Mapping[str, str], home: Path, ctx: StageContext, model: str
) -> tuple[Output, ...]:
    found = pinned_files(
        folder, hashes, subject=model, cancel=ctx.cancel, line=ctx.line,
        hint="correct weights in this worker's site configuration",
    )  # fmt: skip
    write_atomic(_note(folder, hashes, home), _OUTPUTS.dump_json(found))
    return found
