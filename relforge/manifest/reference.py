"""References: what a model scored somewhere else, measured by relforge or reported by others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from relforge.frozen import Frozen
from relforge.manifest.common import Line, Name, PositiveInt, Precision, Reason
from relforge.manifest.facts import Unknown
from relforge.manifest.model import Reference


class AskedWith(Frozen):
    """The settings that decide a score; None where nobody says them."""

    shots: Annotated[int, Field(ge=0)] | None = None
    """Worked examples in front of each question."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """0: the likeliest token each time."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of probability that is sampled from."""
    max_tokens: PositiveInt | None = None
    """The longest answer."""
    repeats: PositiveInt | None = None
    """How many answers to each question the score is a mean of."""
    seed: int | None = None
    """Of the sampling."""
    prompt: Line | None = None
    """The prompt's template."""
    prompt_hash: Annotated[str, StringConstraints(pattern=r"^[a-z_-]+:\S+$")] | None = None
    """What a tool calls the prompt by: ``tool:hash``. Hashes of other tools cannot be compared."""

    def differences(self, other: AskedWith) -> list[str]:
        """The settings that both say and that differ, as ``name: this, other``.

        The seed counts only where sampling uses it.
        """
        names = dict.fromkeys(type(self).model_fields)
        if self.temperature == 0 or other.temperature == 0:
            del names["seed"]
        hashes = (self.prompt_hash, other.prompt_hash)
        if len({(one or "").partition(":")[0] for one in hashes}) > 1:
            del names["prompt_hash"]
        rows = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [
            f"{name}: {mine!r}, {theirs!r}"
            for name, mine, theirs in rows
            if mine is not None and theirs is not None and mine != theirs
        ]


class ReferenceFigure(Frozen):
    """One score, in percent."""

    task: Line
    """The task's name."""
    metric: Line
    """As the tool calls it."""
    value: Annotated[float, Field(ge=0, le=100)]
    """In percent."""
    n: PositiveInt | None = None
    """How many questions; None where the source does not say."""
    settings: AskedWith = AskedWith()
    """What it was asked with."""
    evidence: Reference | None = None
    """The answers behind a measured one, question by question."""


class ReferenceFigures(Frozen):
    """Scores of one model on one kind of hardware, that releases of it are compared with.

    ``measured``: relforge, or a script of the project, has the answers, and each figure names its
    evidence. ``reported``: somebody published the figures, and ``source`` says where; nobody here
    can tell whether they are right.
    """

    kind: Literal["reference"]
    name: Name
    """As evaluations name it."""
    model: Name
    """Whose scores they are."""
    title: Line
    """What cards call it."""
    status: Literal["measured", "reported"]
    """Whether the project has the answers."""
    precision: Precision | Unknown
    """In which the model ran."""
    hardware: Line
    """``unknown`` where the source does not say it; so are ``tool`` and its version."""
    tool: Line
    """What measured it."""
    tool_version: Line
    """Of the tool."""
    source: Annotated[Reason | None, Field(validate_default=True)] = None
    """Where reported figures were published."""
    figures: Annotated[tuple[ReferenceFigure, ...], Field(min_length=1)]
    """One for each task and metric."""

    @field_validator("source")
    @classmethod
    def _told(cls, source: str | None, info: ValidationInfo) -> str | None:
        if source is None and info.data.get("status") == "reported":
            raise ValueError("reported figures need a source")
        return source

    @field_validator("figures")
    @classmethod
    def _backed(
        cls, figures: tuple[ReferenceFigure, ...], info: ValidationInfo
    ) -> tuple[ReferenceFigure, ...]:
        status = info.data.get("status")
        tasks = [(figure.task, figure.metric) for figure in figures]
        if twice := [task for task in tasks if tasks.count(task) > 1]:
            raise ValueError(f"{twice[0][0]} stands twice with one metric")
        for figure in figures:
            if status == "measured" and (figure.evidence is None or figure.n is None):
                raise ValueError(
                    f"{figure.task} is measured and has no evidence with its n: add both, or say "
                    "`status: reported`"
                )
            if status == "reported" and figure.evidence is not None:
                raise ValueError(f"{figure.task} has evidence: say `status: measured`")
        return figures
