"""What differs between two images, as data: what ``relforge rebuild --json`` prints."""

from __future__ import annotations

from typing import Literal

from relforge.frozen import Frozen

FileKind = Literal[
    "missing",
    "extra",
    "type",
    "content",
    "mode",
    "owner",
    "mtime",
    "link",
    "device",
    "xattrs",
    "headers",
]
LayerKind = Literal["missing", "extra", "compression", "packing", "content"]


class FileDifference(Frozen):
    """One path of a layer. ``missing`` is in the first image alone, ``extra`` in the second.

    ``detail`` has both values, the first image's first; ``hint`` says what kind of change of a
    file's content it is, where that can be told.
    """

    path: str
    kinds: tuple[FileKind, ...]
    detail: str
    hint: str | None = None


class LayerDifference(Frozen):
    """One layer. ``index`` counts from 0, in the first image where it is there.

    ``compression``: the unpacked layer is the same. ``packing``: every file is the same, and the
    tar is not; ``order`` then names the first path that comes at another place, if any does.
    ``files`` are the first of those that differ, ``counts`` how many there are of each kind.
    """

    index: int
    created_by: str
    kind: LayerKind
    first: str | None
    second: str | None
    detail: str = ""
    order: str | None = None
    files: tuple[FileDifference, ...] = ()
    counts: dict[FileKind, int] = {}
    files_differ: int = 0


class FieldDifference(Frozen):
    """One field of manifest or configuration, both values as JSON; None where there is none."""

    field: str
    first: str | None
    second: str | None


class Side(Frozen):
    """One of two images: its digest, and where it is."""

    digest: str
    place: str


class Comparison(Frozen):
    """Two images. ``layers_compared`` is False where only digests were at hand."""

    identical: bool
    first: Side
    second: Side
    fields: tuple[FieldDifference, ...] = ()
    layers: tuple[LayerDifference, ...] = ()
    layers_compared: bool = True


class RebuildOutput(Frozen):
    """What ``relforge rebuild --json`` prints; stable.

    ``compared`` is None where nothing is recorded. ``layout`` is where the new image was kept.
    ``notes`` say what else is not as it was: another lock, another base image.
    """

    release: str | None
    image_digest: str | None
    compared: Comparison | None
    layout: str | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
