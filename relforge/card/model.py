"""What a card says, without its language: facts, figures, commands, and sentences to be worded."""

from __future__ import annotations

from typing import Literal

from relforge.benching.model import BenchReport
from relforge.evaluation.figures import Figures
from relforge.frozen import Frozen

Language = Literal["en", "zh"]
Target = Literal["hf", "modelscope", "github"]
Value = str | int | float


class Said(Frozen):
    """A sentence: its English wording, which is its key in the other languages' words.

    ``text`` has the values' places as ``%(name)s``. A value that is itself a known wording is
    worded, too; what people wrote or programs said stays as it is.
    """

    text: str
    values: dict[str, Value] = {}

    @classmethod
    def plain(cls, value: Value) -> Said:
        """A value that no language changes."""
        return cls(text="%(value)s", values={"value": value})


class Row(Frozen):
    """A name, which is worded, and what it is."""

    name: str
    value: Said


class EnvironmentRow(Frozen):
    """One part of the software. ``read``: in the image itself, or as the manifests pin it."""

    name: str
    value: Said
    read: bool


class SourceRow(Frozen):
    """One source: where it is from, its tree after patching, how its native code was had."""

    name: str
    identity: str
    tree: str | None
    native: Said


class PatchRow(Frozen):
    """One patch set; ``count`` is None where nobody could open it yet."""

    name: str
    source: str
    count: int | None
    result_tree: str | None
    sealed: bool


class ReportedRow(Frozen):
    """A figure that somebody published, beside the reference that was published with it.

    Percentages with two decimals. ``n`` is what the source says, or with ``assumed`` the size of
    the dataset. The interval (Newcombe, 95 %) takes both for independent samples of that size.
    """

    task: str
    metric: str
    reference_percent: float | None
    result_percent: float
    n: int | None
    assumed: bool
    difference_points: float | None
    interval_points: tuple[float, float] | None


class ReportedTable(Frozen):
    """Reported figures of one source. ``reference`` names theirs; the two precisions can differ."""

    source: str
    reference: str | None
    reference_source: str | None
    reference_precision: str | None
    reference_model: str | None
    """Another model than this one, that these weights were made from; None: it is the same."""
    precision: str
    rows: tuple[ReportedRow, ...]


Needs = Literal["hardware", "network", "secret"]


class Code(Frozen):
    """A block that a reader pastes. The attributes are for whoever runs the card as a test."""

    text: str
    title: Said | None = None
    language: str = "bash"
    step: str | None = None
    ready: str | None = None
    """The address that answers when what the block started is ready."""
    background: bool = False
    """It runs until it is ended; the next block goes into another terminal."""
    needs: tuple[Needs, ...] = ()
    expect: str | None = None
    """What the block prints, or the text of the model's answer."""


class Step(Frozen):
    """One numbered step of how to run it: sentences, blocks, and sentences after them."""

    title: str
    words: tuple[Said, ...]
    codes: tuple[Code, ...] = ()
    after: tuple[Said, ...] = ()


class CardData(Frozen):
    """Everything that the templates use."""

    title: str
    summary: str
    release: str
    model: str
    precision: str
    parameters: int
    device: str
    device_title: str
    engine: str
    features: tuple[Said, ...]
    built: bool
    summary_rows: tuple[Row, ...]
    triton: tuple[Row, ...]
    """Measured operator coverage."""
    triton_missing: Said | None
    """Why there is none."""
    image: tuple[Row, ...]
    verify_image: Code | None
    verify_signature: Code | None
    environment: tuple[EnvironmentRow, ...]
    accepted_complaints: tuple[Row, ...]
    sources: tuple[SourceRow, ...]
    patches: tuple[PatchRow, ...]
    evaluation: tuple[Figures, ...]
    reported: tuple[ReportedTable, ...]
    performance: BenchReport | None
    host: tuple[str, ...]
    """What the host has to have beside a container engine."""
    steps: tuple[Step, ...]
    limits: tuple[Said, ...]
    contact: tuple[Said, ...]
    license: str
    license_source: str
    part_licenses: tuple[Row, ...]
    all_licenses: Said | None
    """Where those of every package are listed."""
    lock_sha256: str
    all_pinned: bool
    """Whether the lock ties everything to its content; if not, ``limits`` says what it does not."""
    reproduce: tuple[Code, ...]
    metadata: Metadata


class Scored(Frozen):
    """A measured score for the hubs' metadata, in percent. ``dataset`` is its name on the hub."""

    task: str
    metric: str
    value: float
    n: int
    dataset: str | None
    dataset_revision: str | None
    shots: int | None = None


class Metadata(Frozen):
    """What the head of a card tells a hub."""

    license: str
    languages: tuple[str, ...]
    base_model: str | None
    base_model_relation: str | None
    library: str | None
    tags: tuple[str, ...]
    name: str
    scores: tuple[Scored, ...]
    date: str | None
    """Of the image, as ``2026-01-31``."""


CardData.model_rebuild()
