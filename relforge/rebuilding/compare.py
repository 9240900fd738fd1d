"""Two images against each other: fields, layers, and the files of layers that differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import partial
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.rebuilding.entries import compression
from relforge.rebuilding.files import compare_files
from relforge.rebuilding.image import Image
from relforge.rebuilding.model import Comparison, FieldDifference, LayerDifference


class _Layer:
    """One layer of one image."""

    def __init__(self, image: Image, index: int, created_by: str) -> None:
        self.image = image
        self.index = index
        self.created_by = created_by
        self.descriptor = image.manifest["layers"][index]
        self.digest = str(self.descriptor["digest"])
        self.diff_id = str(image.config["rootfs"]["diff_ids"][index])

    @property
    def name(self) -> str:
        return f"{self.image.place}, layer {self.index} ({self.digest})"


def compare_images(
    first: Image,
    second: Image,
    *,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Says what differs; layers with equal digests are not read. Layers are never unpacked to disk.

    Raises RelforgeError (BUILD) when a layer cannot be read, or is not what its image says.
    """
    if first.digest == second.digest:
        return Comparison(identical=True, first=first.side, second=second.side)
    layers = []
    for one, other in _paired(first, second):
        if one is None or other is None:
            layers.append(_alone(one, other))
        elif one.digest != other.digest:
            line(f"comparing layer {one.index}: {_step(one.created_by)}")
            layers.append(_differing(one, other, cancel))
    return Comparison(
        identical=False,
        first=first.side,
        second=second.side,
        fields=tuple(_fields(first, second)),
        layers=tuple(layers),
    )


def _layers(image: Image) -> list[_Layer]:
    steps = [h.get("created_by", "") for h in image.config.get("history") or ()
             if not h.get("empty_layer")]  # fmt: skip
    count = len(image.manifest["layers"])
    if len(steps) != count:
        steps = [""] * count
    return [_Layer(image, i, steps[i]) for i in range(count)]


def _paired(first: Image, second: Image) -> Iterator[tuple[_Layer | None, _Layer | None]]:
    """Layers that stand for each other: by position, or by what made them when numbers differ."""
    left, right = _layers(first), _layers(second)
    if len(left) == len(right):
        yield from zip(left, right, strict=True)
        return
    one, other = ([layer.created_by or layer.diff_id for layer in side] for side in (left, right))
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        for k in range(max(i_end - i, j_end - j)):
            yield (
                left[i + k] if i + k < i_end else None,
                right[j + k] if j + k < j_end else None,
            )


def _alone(one: _Layer | None, other: _Layer | None) -> LayerDifference:
    there = one or other
    assert there is not None
    return LayerDifference(
        index=there.index,
        created_by=there.created_by,
        kind="missing" if one else "extra",
        first=one.digest if one else None,
        second=other.digest if other else None,
    )


def _differing(one: _Layer, other: _Layer, cancel: CancelToken | None) -> LayerDifference:
    known = {
        "index": one.index,
        "created_by": one.created_by,
        "first": one.digest,
        "second": other.digest,
    }
    if one.diff_id == other.diff_id:
        return LayerDifference(kind="compression", detail=_compressed(one, other), **known)
    found = compare_files(
        partial(one.image.open_layer, one.digest),
        partial(other.image.open_layer, other.digest),
        names=(one.name, other.name),
        cancel=cancel,
    )
    for layer, diff_id in ((one, found.first_diff_id), (other, found.second_diff_id)):
        if diff_id != layer.diff_id:
            raise RelforgeError(
                "a layer is not what its image's configuration says",
                code=ExitCode.BUILD,
                where=layer.name,
                why=f"unpacked it is {diff_id}, named is {layer.diff_id}",
                hint="the image is damaged or forged: have it again from where it came",
            )
    return LayerDifference(
        kind="content" if found.differ else "packing",
        detail="" if found.differ or found.order else "headers or padding of the tar differ",
        order=found.order,
        files=found.files,
        counts=dict(found.counts),
        files_differ=found.differ,
        **known,
    )


def _compressed(one: _Layer, other: _Layer) -> str:
    words = []
    for layer in (one, other):
        with layer.image.open_layer(layer.digest) as blob:
            words.append(f"{compression(blob)}, {layer.descriptor.get('size')} B")
    return " → ".join(words)


def _fields(first: Image, second: Image) -> Iterator[FieldDifference]:
    """Of the manifest and the configuration, without what follows from the layers."""
    for name, one, other in (
        ("manifest", first.manifest, second.manifest),
        ("config", first.config, second.config),
    ):
        left, right = _flat(one), _flat(other)
        for key in sorted(left.keys() | right.keys()):
            if left.get(key) != right.get(key) and not _follows(name, key):
                yield FieldDifference(
                    field=f"{name}.{key}", first=left.get(key), second=right.get(key)
                )


def _follows(name: str, key: str) -> bool:
    if name == "manifest":
        return key.startswith("layers[") or key in ("config.digest", "config.size")
    return key.startswith("rootfs.diff_ids[")


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        pairs = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(f"{path}[{at}]", item) for at, item in enumerate(value)]
    else:
        return {path: json.dumps(value, ensure_ascii=False, sort_keys=True)}
    found: dict[str, str] = {}
    for key, item in pairs:
        found |= _flat(item, key)
    return found


def _step(created_by: str) -> str:
    return (created_by.splitlines() or ["unknown step"])[0]
