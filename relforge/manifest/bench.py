"""What load a release is measured under: the ``bench`` section of its manifest."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated

from pydantic import Field, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import PositiveInt, Seconds

Percentile = Annotated[float, Field(gt=0, lt=100)]
"""Of 100."""


class BenchLevel(Frozen):
    """One step of the ladder: as many requests at a time as ``concurrency``, ``prompts`` in all.

    As soon as one is answered, the next is sent.
    """

    concurrency: PositiveInt
    """Requests at a time."""
    prompts: PositiveInt
    """In all."""

    @model_validator(mode="after")
    def _reaches_it(self) -> BenchLevel:
        if self.prompts < self.concurrency:
            raise ValueError(
                f"{self.prompts} prompts never are {self.concurrency} requests at a time"
            )
        return self


class Bench(Frozen):
    """A ladder of loads with ``vllm bench serve``: random prompts, greedy answers of equal length.

    Lengths are in tokens. Each level has a seed of its own, counted up from ``seed``, so that no
    level finds the prompts of another in the server's prefix cache.
    """

    input_tokens: PositiveInt
    """Of every prompt."""
    output_tokens: Annotated[int, Field(ge=2)]
    """Of every answer: the end-of-sequence token is ignored. With one there are no gaps."""
    levels: Annotated[tuple[BenchLevel, ...], Field(min_length=1)]
    """In rising order of concurrency."""
    percentiles: Annotated[tuple[Percentile, ...], Field(min_length=1)] = (50, 90, 99)
    """Of latencies, in rising order."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the first level's prompts."""
    level_timeout_s: Seconds = 1800.0
    """After which a level that is not done has failed."""

    @model_validator(mode="after")
    def _measurable(self) -> Bench:
        for name, values in (
            ("levels", [level.concurrency for level in self.levels]),
            ("percentiles", self.percentiles),
        ):
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} stand in rising order, each once")
        highest = max(self.percentiles)
        fewest = min(level.prompts for level in self.levels)
        # One request lies beyond it, or the percentile would be a guess; as written, not as float.
        enough = math.ceil(100 / (100 - Decimal(str(highest))))
        if fewest < enough:
            raise ValueError(
                f"no request lies beyond percentile {highest:g} of {fewest} prompts: give every "
                f"level at least {enough}, or leave the percentile out"
            )
        return self
