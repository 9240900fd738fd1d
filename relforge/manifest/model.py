"""Models: weights with a licence, a precision and reference results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relforge.frozen import Frozen
from relforge.manifest.common import Line, Name, PositiveInt, RelativePath, Sha256


class LocalWeights(Frozen):
    """Weights in a folder of the project, every file pinned by hash."""

    kind: Literal["local"]
    path: RelativePath
    files: dict[RelativePath, Sha256]


Weights = Annotated[LocalWeights, Field(discriminator="kind")]


class Reference(Frozen):
    """An evidence file with the reference's per-question outcomes and greedy texts."""

    task: Name
    path: RelativePath
    sha256: Sha256


class Model(Frozen):
    """Weights as people know them."""

    kind: Literal["model"]
    name: Name
    title: Line
    summary: str
    license: Line
    license_source: Line
    architecture: str
    parameters: PositiveInt
    precision: Literal["float32", "float16", "bfloat16", "fp8", "int8", "int4", "w8a8"]
    base_model: str | None = None
    base_model_relation: Literal["finetune", "quantized", "merge", "adapter"] | None = None
    languages: tuple[str, ...] = ()
    weights: Weights
    reference: Reference | None = None
