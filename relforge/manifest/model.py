"""Models: weights with a licence, a precision and reference results."""

from __future__ import annotations

from typing import Literal

from relforge.frozen import Frozen
from relforge.manifest.common import (
    Line,
    Name,
    PositiveInt,
    Precision,
    RelativePath,
    Sha256,
)
from relforge.manifest.weights import Weights


class Reference(Frozen):
    """An evidence file with the reference's per-question outcomes and greedy texts."""

    task: Name
    path: RelativePath
    sha256: Sha256


class StaticGraph(Frozen):
    """A graph of the model that PaddleNLP built ahead; its server fetches it by ``name``."""

    name: Line
    precision: Line
    """As PaddleNLP names it."""
    mtp: bool | None = None
    """With multi-token prediction; None where the model has none."""
    nodes: PositiveInt | None = None
    """On how many nodes it runs; None where its source does not say."""
    source: Line


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
    precision: Precision
    base_model: str | None = None
    base_model_relation: Literal["finetune", "quantized", "merge", "adapter"] | None = None
    base_license: Line | None = None
    """The licence of ``base_model``, as its own repository states it; one that is a model of the
    project says it there."""
    languages: tuple[str, ...] = ()
    weights: Weights
    reference: Reference | None = None
    static_graphs: tuple[StaticGraph, ...] = ()
