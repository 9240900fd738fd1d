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
    """The task's name."""
    path: RelativePath
    """The evidence file in the project."""
    sha256: Sha256
    """Of that file."""


class StaticGraph(Frozen):
    """A graph of the model that PaddleNLP built ahead; its server fetches it by ``name``."""

    name: Line
    """As the server asks for it."""
    precision: Line
    """As PaddleNLP names it."""
    mtp: bool | None = None
    """With multi-token prediction; None where the model has none."""
    nodes: PositiveInt | None = None
    """On how many nodes it runs; None where its source does not say."""
    source: Line
    """Where it is listed."""


class Model(Frozen):
    """Weights as people know them."""

    kind: Literal["model"]
    name: Name
    """As releases name it."""
    title: Line
    """What cards call it."""
    summary: str
    """A sentence or two for cards."""
    license: Line
    """An SPDX identifier, or the name that the hub has for it."""
    license_source: Line
    """Where it stands."""
    architecture: str
    """The class name in the model's configuration."""
    parameters: PositiveInt
    """How many."""
    precision: Precision
    """Of the weights as they are served."""
    base_model: str | None = None
    """What it was made of: a model of the project, or a name on a hub."""
    base_model_relation: Literal["finetune", "quantized", "merge", "adapter"] | None = None
    """How it was made of that."""
    base_license: Line | None = None
    """The licence of ``base_model``, as its own repository states it; one that is a model of the
    project says it there."""
    languages: tuple[str, ...] = ()
    """Codes of the languages that it writes, such as ``en``."""
    weights: Weights
    """Where the files come from."""
    reference: Reference | None = None
    """The answers that the evaluation gate compares with."""
    static_graphs: tuple[StaticGraph, ...] = ()
    """Graphs that were built ahead for PaddleNLP."""
