"""What people type against a running server: the ``client`` section of a release's manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relforge.frozen import Frozen
from relforge.manifest.common import Line, Name, PositiveInt


class Ask(Frozen):
    """One request that shows that the server answers."""

    api: Literal["completions", "chat"]
    """Which one it is sent to."""
    text: Line
    """Prompt or message."""
    max_tokens: PositiveInt | None = None
    """Of the answer, at most."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """0: the likeliest token each time."""
    stream: bool = False
    """Whether the answer comes in pieces."""
    by: Literal["curl", "openai"] = "curl"
    """With curl, or with the OpenAI library for Python."""


class LmEval(Frozen):
    """An accuracy run with the Language Model Evaluation Harness (``lm_eval``)."""

    tasks: Annotated[tuple[Name, ...], Field(min_length=1)]
    """By lm-eval's names."""
    api: Literal["completions", "chat"] = "completions"
    """Which one is asked."""
    concurrency: PositiveInt | None = None
    """Questions at once."""


class BenchServe(Frozen):
    """A load run with ``vllm bench serve``."""

    dataset: Name = "random"
    """As ``vllm bench serve`` names it."""
    input_tokens: PositiveInt
    """Of every prompt."""
    output_tokens: PositiveInt | None = None
    """Of every answer."""
    prompts: PositiveInt
    """In all."""
    request_rate: Annotated[float, Field(gt=0)] | None = None
    """Requests for each second; None: all at once."""


class Client(Frozen):
    """Requests, an accuracy run and a load run; ``relforge serve --print client`` prints them."""

    asks: tuple[Ask, ...] = ()
    """Requests that show that it answers."""
    lm_eval: LmEval | None = None
    """An accuracy run."""
    bench: BenchServe | None = None
    """A load run."""
