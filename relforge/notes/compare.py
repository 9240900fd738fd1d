"""What changed from one release record to another: pure data, nothing is guessed.

What a record does not hold is left out, or said to be unknown; it is never taken for unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from relforge.building.layers import BuiltLayer, kinds_of
from relforge.errors import ExitCode, RelforgeError
from relforge.notes.accuracy import accuracy
from relforge.notes.model import (
    Changed,
    Direction,
    ImageChange,
    Named,
    Notes,
    PatchSetChange,
    SideBySide,
    SizeChange,
    SourceChange,
)
from relforge.notes.packages import debian_changes, python_changes
from relforge.notes.performance import performance
from relforge.notes.record import PatchSet, Record, Source
from relforge.publishing.published import IMAGE

_COMPARING = re.compile(r"^https://(github\.com|gitlab\.com|gitee\.com)/[^/@]+/[^/@]+$")
_NEVER = "not-run"


def compare_records(
    old: Record | None, new: Record, side_by_side: SideBySide | None = None
) -> Notes:
    """The notes from *old* to *new*; of *new* alone where it is the first release.

    Raises RelforgeError (USAGE) for records of different devices or models.
    """
    if old is not None:
        _refuse_unlike(old, new)
    python, debian = new.build.python_packages, new.build.debian_packages
    # Of an image that was taken as it is nothing was read back; that is not an image without any.
    known = old is None or bool(old.build.python_packages) == bool(python)
    return Notes(
        model=new.model,
        device=new.device,
        old=_named(old) if old else None,
        new=_named(new),
        weights=tuple(_changes(old.weights, new.weights)) if old else (),
        sources=tuple(_sources(old.lock.sources if old else {}, new.lock.sources)),
        patches=tuple(_patches(old.lock.patches if old else {}, new.lock.patches)),
        base=tuple(_base(old, new)),
        image=_image(old, new),
        python=new.build.python,
        python_count=len(python),
        debian_count=len(debian),
        packages_known=known,
        python_packages=python_changes(old.build.python_packages, python) if old and known else (),
        debian_packages=debian_changes(old.build.debian_packages, debian) if old and known else (),
        accuracy=accuracy(old, new),
        bench=performance(old, new, side_by_side),
        coverage=tuple(_coverage(old, new)),
        verdicts=tuple(_verdicts(old, new)),
        serving=tuple(_changes(old.serving, new.serving)) if old else (),
        limits=tuple(_limits(old, new)),
    )


def _refuse_unlike(old: Record, new: Record) -> None:
    for what, before, after in (
        ("devices", old.device, new.device),
        ("models", old.model, new.model),
    ):
        if before != after:
            raise RelforgeError(
                f"the two records are about different {what}: {before} and {after}",
                code=ExitCode.USAGE,
                why="release notes say what changed for the people who run one model on one device",
                hint=f"name two records of one of them, or the first alone: {new.release}",
            )


def _named(record: Record) -> Named:
    return Named(
        release=record.release,
        image_digest=record.image_digest,
        created=record.created,
        run=record.run,
    )


def _sources(old: Mapping[str, Source], new: Mapping[str, Source]) -> Iterator[SourceChange]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is not None and after is not None and _pin(before) == _pin(after):
            continue
        direction: Direction = "changed"
        if before is None or after is None:
            direction = "added" if before is None else "removed"
        yield SourceChange(
            source=name,
            direction=direction,
            before=before.identity if before else None,
            after=after.identity if after else None,
            tree_before=before.tree if before else None,
            tree_after=after.tree if after else None,
            compare=_range(before, after),
        )


def _pin(source: Source) -> tuple[str | None, ...]:
    return source.identity, source.sha256, source.commit, source.tree


def _range(before: Source | None, after: Source | None) -> str | None:
    """Where the forge of a git source shows the commits between the two."""
    if before is None or after is None or not before.commit or not after.commit:
        return None
    places = {source.identity.rpartition("@")[0].removesuffix(".git") for source in (before, after)}
    place = places.pop()
    if places or not _COMPARING.match(place) or before.commit == after.commit:
        return None
    between = "/-/compare/" if "//gitlab.com/" in place else "/compare/"
    return f"{place}{between}{before.commit}...{after.commit}"


def _patches(old: Mapping[str, PatchSet], new: Mapping[str, PatchSet]) -> Iterator[PatchSetChange]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        one, other = dict(before.patches if before else ()), dict(after.patches if after else ())
        added = [patch for patch in other if patch not in one]
        removed = [patch for patch in one if patch not in other]
        moved = {one[patch]: patch for patch in removed}
        renamed = [(moved[other[patch]], patch) for patch in added if other[patch] in moved]
        shown = after or before
        assert shown is not None
        yield PatchSetChange(
            name=name,
            source=shown.source,
            count_before=len(one),
            count_after=len(other),
            added=tuple(p for p in added if p not in {after for _, after in renamed}),
            removed=tuple(p for p in removed if p not in {before for before, _ in renamed}),
            changed=tuple(p for p in other if p in one and one[p] != other[p]),
            renamed=tuple(renamed),
            tree_before=before.result_tree if before else None,
            tree_after=after.result_tree if after else None,
        )


def _base(old: Record | None, new: Record) -> Iterator[Changed]:
    rows = {
        "reference": (old and _reference(old), _reference(new)),
        "how": (old and old.build.base_how, new.build.base_how),
        "digest": (old and old.build.base_digest, new.build.base_digest),
        "python": (old and old.build.python, new.build.python),
    }
    for name, (before, after) in rows.items():
        if before != after:
            yield Changed(name=name, before=before, after=after)


def _reference(record: Record) -> str | None:
    if record.base_reference or record.lock.image is None:
        return record.base_reference
    return f"{record.lock.image.reference}@{record.lock.image.digest}"


def _image(old: Record | None, new: Record) -> ImageChange | None:
    if new.build.compressed_bytes is None:
        return None
    before, after = _layers(old) if old else (), _layers(new)
    known = bool(after) and (old is None or bool(before))
    sizes = _by_kind(before), _by_kind(after)
    new_bytes = None
    if known and old is not None:
        had = {layer.digest for layer in before}
        new_bytes = sum({x.digest: x.size_bytes for x in after if x.digest not in had}.values())
    return ImageChange(
        before_bytes=old.build.compressed_bytes if old else None,
        after_bytes=new.build.compressed_bytes,
        unpacked_before_bytes=old.build.unpacked_bytes if old else None,
        unpacked_after_bytes=new.build.unpacked_bytes,
        layers=tuple(
            SizeChange(kind=kind, before_bytes=sizes[0].get(kind), after_bytes=sizes[1].get(kind))
            for kind in dict.fromkeys((*sizes[1], *sizes[0]))
        )
        if known
        else (),
        new_layers_bytes=new_bytes,
    )


def _by_kind(layers: tuple[BuiltLayer, ...]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for layer in {one.digest: one for one in layers}.values():  # a registry keeps each layer once
        found[layer.kind] = found.get(layer.kind, 0) + layer.size_bytes
    return found


def _layers(record: Record) -> tuple[BuiltLayer, ...]:
    """From the record, or, of earlier versions, from the image that lies beside it."""
    if record.build.layer_sizes or record.folder is None:
        return record.build.layer_sizes
    blobs = record.folder / IMAGE / "blobs" / "sha256"
    try:
        manifest = json.loads((blobs / record.image_digest.removeprefix("sha256:")).read_bytes())
        config = manifest["config"]["digest"].removeprefix("sha256:")
        history = json.loads((blobs / config).read_bytes()).get("history", [])
        steps = [str(h.get("created_by", "")) for h in history if not h.get("empty_layer")]
        layers = manifest["layers"]
        kinds = kinds_of(steps, given="as it is" in (record.build.base_how or ""))
        return tuple(
            BuiltLayer(digest=layer["digest"], size_bytes=layer["size"], kind=kind)
            for layer, kind in zip(layers, kinds, strict=True)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _coverage(old: Record | None, new: Record) -> Iterator[Changed]:
    before = _counted(old) if old else {}
    yield from _changes(before, _counted(new))


def _counted(record: Record) -> dict[str, Any]:
    found = record.coverage
    if found is None:
        return {}
    return {"operators": found.operators, "calls": found.calls, "shares": found.shares}


def _verdicts(old: Record | None, new: Record) -> Iterator[Changed]:
    """Of each stage; what a record does not name was not run."""
    before = old.verdicts if old else {}
    for name in dict.fromkeys((*before, *new.verdicts)):
        was = before.get(name, _NEVER) if old else None
        now = new.verdicts.get(name, _NEVER)
        if was != now:
            yield Changed(name=name, before=was, after=now)


def _limits(old: Record | None, new: Record) -> Iterator[Changed]:
    """Stages that were left out, with the reason, and complaints about the Python packages."""
    before = {**(old.skipped if old else {}), **_complaints(old)}
    after = {**new.skipped, **_complaints(new)}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Changed(name=name, before=before.get(name), after=after.get(name))


def _complaints(record: Record | None) -> dict[str, str]:
    return {f"pip check: {one}": one for one in (record.build.pip_check if record else ())}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Changed]:
    """Every setting that differs, by its dotted name. A field that is empty is as good as none:
    later versions of relforge know fields that earlier records do not have."""
    before, after = dict(_flat(old)), dict(_flat(new))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Changed(name=name, before=before.get(name), after=after.get(name))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value not in (None, [], (), ""):
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
