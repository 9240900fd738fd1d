"""What each layer of a built image holds, told from the step that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from relforge.frozen import Frozen

if TYPE_CHECKING:
    from relforge.engine.layout import ImageFacts

LayerKind = Literal["base", "system", "dependencies", "native", "python", "other", "given"]
"""``base``: the image that it stands on; ``system``: packages of the distribution;
``dependencies``: the Python packages that the release needs; ``native`` and ``python``: the
libraries and the Python files of the release's own packages; ``given``: of somebody else's image,
taken as it is."""

# Words of the steps in dockerfiles/base.j2, in the order in which they are looked for.
_STEPS: tuple[tuple[str, LayerKind], ...] = (
    ("/tools/apt-install", "system"),
    ("uv pip install", "dependencies"),
    ("uv venv", "dependencies"),
    ("/layers/native/", "native"),
    ("COPY /out/", "native"),
    ("/layers/python/", "python"),
)


class BuiltLayer(Frozen):
    """One layer. ``size_bytes`` is compressed, as it is sent and stored by a registry."""

    digest: str
    size_bytes: int
    kind: LayerKind


def kinds_of(steps: Sequence[str], *, given: bool = False) -> tuple[LayerKind, ...]:
    """The kind of each layer; *steps* is what made it, as the image's history has it."""
    if given:
        return tuple("given" for _ in steps)
    found: list[LayerKind] = []
    for step in steps:
        kind: LayerKind | None = next((kind for words, kind in _STEPS if words in step), None)
        # All that lies below the first step of ours came with the base.
        own = any(one != "base" for one in found)
        found.append(kind or ("other" if own else "base"))
    return tuple(found)


def built_layers(image: ImageFacts, *, given: bool = False) -> tuple[BuiltLayer, ...]:
    """The layers of an image; ``given``: it is somebody else's."""
    kinds = kinds_of([layer.created_by for layer in image.layers], given=given)
    return tuple(
        BuiltLayer(digest=layer.digest, size_bytes=layer.size_bytes, kind=kind)
        for layer, kind in zip(image.layers, kinds, strict=True)
    )
