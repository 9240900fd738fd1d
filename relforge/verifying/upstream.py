"""The results of a release's stages as its record has them, for whatever was made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relforge.files import Output
from relforge.stage import StageResult

_SHA256 = re.compile(r"[0-9a-f]{64}")


def upstream(record: Mapping[str, Any], folder: Path | None = None) -> dict[str, StageResult]:
    """By stage, in the pipeline's order. ``outputs`` have the hashes that the record names.

    An output lies at ``folder/<sha256>``, where somebody may have put it; without a folder there
    is no file. Raises KeyError, ValidationError for a record that another version of relforge
    wrote.
    """
    from relforge.pipeline import STAGES

    results = record["results"]
    found: dict[str, StageResult] = {}
    for stage in STAGES:
        if stage.name not in results or stage.name in ("card", "publish", "preflight"):
            continue
        outputs = tuple(
            _output(entry, folder) for entry in record["evidence"].get(stage.name) or ()
        )
        values: dict[str, Any] = {**results[stage.name], "outputs": outputs}
        if "rebuild" in stage.result_type.model_fields:
            # The record leaves it out: it names paths of the host that built.
            values["rebuild"] = ""
        found[stage.name] = stage.result_type.model_validate(values)
    return found


def _output(entry: Mapping[str, Any], folder: Path | None) -> Output:
    # It becomes a path: whoever wrote the record must not choose which.
    if not _SHA256.fullmatch(str(entry["sha256"])):
        raise ValueError("the record names evidence by something that is no SHA-256")
    return Output(
        path=(folder or Path("/nowhere")) / str(entry["sha256"]),
        sha256=entry["sha256"],
        size_bytes=entry["bytes"],
        mtime_ns=0,
        inode=0,
    )
