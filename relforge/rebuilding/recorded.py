"""With what a rebuilt image is compared: the store's result, a published folder, a digest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.building.inputs import BuildInputs
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.record import FILE_NAME
from relforge.evidence.store import Miss, Store
from relforge.explaining import differences
from relforge.manifest.site import Site
from relforge.rebuilding.image import Image, from_layout, named
from relforge.rebuilding.model import Side
from relforge.stages.build import BuildResult

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_NOTED = 8
_FOLLOWING = ("labels.", "image_name", "dockerfile_sha256")


@dataclass(frozen=True)
class Recorded:
    """``image`` is None where nothing but the digest is at hand. ``notes`` say what the recorded
    image was built of otherwise than the release is now."""

    side: Side
    image: Image | None = None
    notes: tuple[str, ...] = ()
    base_digest: str | None = None

    @classmethod
    def of(cls, image: Image, **more: Any) -> Recorded:
        return cls(side=image.side, image=image, **more)


def in_store(store: Store, key: str) -> Recorded | None:
    """What the store has of a build, unaltered."""
    found = store.lookup("build", key)
    if isinstance(found, Miss):
        return None
    result = BuildResult.model_validate(found.result)
    image = from_layout(result.layout, result.architecture)
    return Recorded.of(image, base_digest=result.base_digest)


def in_folder(folder: Path, inputs: BuildInputs) -> Recorded:
    """A published folder, a layout, or a release record. Raises RelforgeError (USAGE, BUILD)."""
    if not folder.is_dir():
        record = _record(folder)
        layout = folder.parent / "image"
        digest = _own_digest(record)
        if not (layout / "index.json").is_file():
            side = Side(digest=digest, place=str(folder))
            return Recorded(side, notes=_notes(record, inputs), base_digest=_base(record))
        folder = folder.parent
    image = from_layout(folder, inputs.architecture)
    path = folder / FILE_NAME
    record = _record(path) if path.is_file() else {}
    if record and record.get("image_digest") != image.whole:
        raise RelforgeError(
            "the record of this release is about another image",
            code=ExitCode.BUILD,
            where=str(folder),
            why=f"{FILE_NAME} names {record.get('image_digest')}, image/ is {image.whole}",
            hint=f"relforge verify {folder}",
        )
    return Recorded.of(image, notes=_notes(record, inputs), base_digest=_base(record))


def by_name(
    name: str,
    inputs: BuildInputs,
    store: Store,
    key: str,
    *,
    site: Site,
    cancel: CancelToken | None = None,
) -> Recorded:
    """What ``--against`` names: a digest, a folder or record, else an image in a registry.

    Raises RelforgeError (USAGE) for what is none of them, (PUBLISH) when a registry refuses.
    """
    if _DIGEST.match(name):
        known = in_store(store, key)
        image = known.image if known is not None else None
        if known is not None and image is not None and name in (image.digest, image.whole):
            return known
        return Recorded(Side(digest=name, place="the digest that was named"))
    path = Path(name)
    if path.is_dir() or path.suffix == ".json":
        return in_folder(path, inputs)
    return Recorded.of(named(name, site, cancel, architecture=inputs.architecture))


def _own_digest(record: Mapping[str, Any]) -> str:
    """Of the image that the release built itself, of however many architectures it became one."""
    build = (record.get("results") or {}).get("build") or {}
    platforms = build.get("platforms") or ()
    return str(platforms[0]["digest"] if platforms else record.get("image_digest"))


def _record(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RelforgeError(
            "the release record cannot be read",
            code=ExitCode.USAGE,
            where=str(path),
            why=str(error),
            hint="name a published folder, or the release.json in it",
        ) from error
    if not isinstance(value, dict) or "image_digest" not in value:
        raise RelforgeError(
            "this is no release record",
            code=ExitCode.USAGE,
            where=str(path),
            why="it names no image_digest",
            hint="name a published folder, or the release.json in it",
        )
    return value


def _notes(record: Mapping[str, Any], inputs: BuildInputs) -> tuple[str, ...]:
    """Inputs of the recorded build that are not those of now: then another image is expected."""
    try:
        before = record["inputs"]["build"]["values"]
    except (KeyError, TypeError):
        return ()
    found = differences(before, inputs.model_dump(mode="json"))
    # What follows from others comes last.
    found.sort(key=lambda phrase: phrase.startswith(_FOLLOWING))
    more = [f"and {len(found) - _NOTED} more inputs"] if len(found) > _NOTED else []
    return tuple(f"built of other inputs: {phrase}" for phrase in found[:_NOTED] + more)


def _base(record: Mapping[str, Any]) -> str | None:
    try:
        return str(record["results"]["build"]["base_digest"])
    except (KeyError, TypeError):
        return None
