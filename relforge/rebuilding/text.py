"""A comparison as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.rebuilding.model import Comparison, LayerDifference

_FILES = 20
_STEP = 100
_VALUE = 160
_WORDS = {"missing": "missing in the second", "extra": "only in the second"}


def lines(compared: Comparison) -> Iterator[str]:
    """The report, line by line."""
    if compared.identical:
        yield f"identical, {compared.first.digest}"
        return
    yield f"different: {compared.first.digest}  {compared.first.place}"
    yield f"           {compared.second.digest}  {compared.second.place}"
    if not compared.layers_compared:
        yield "only the digest of the first is at hand: which layers differ cannot be said"
    for field in compared.fields:
        yield f"{field.field}: {_cut(field.first)} → {_cut(field.second)}"
    for layer in compared.layers:
        yield from _layer(layer)


def _layer(layer: LayerDifference) -> Iterator[str]:
    step = " ".join(layer.created_by.split())
    yield f"layer {layer.index}, {step[:_STEP] + '…' if len(step) > _STEP else step or 'unknown'}"
    if layer.kind in ("missing", "extra"):
        yield f"  {_WORDS[layer.kind]}"
    elif layer.kind == "compression":
        yield f"  the same content, compressed in another way: {layer.detail}"
    elif layer.kind == "packing":
        yield "  every file is the same; the tar is not" + (
            f": {layer.detail}" if layer.detail else ""
        )
    else:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(layer.counts.items()))
        yield f"  {layer.files_differ} files differ: {counts}"
    if layer.order is not None:
        yield f"  order: {layer.order} comes at another place"
    for file in layer.files[:_FILES]:
        yield f"  {file.path}: {', '.join(file.kinds)}"
        yield f"    {file.detail}"
        if file.hint:
            yield f"    {file.hint}"
    if layer.files_differ > _FILES:
        yield f"  and {layer.files_differ - _FILES} more (--json has up to 1000 of a layer)"


def _cut(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= _VALUE else value[:_VALUE] + "…"
