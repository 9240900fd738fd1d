"""What people type against a running server: the ``client`` section of a release's manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relforge.frozen import Frozen
from relforge.manifest.common import Line, Name, PositiveInt


class Ask(Frozen):
    """One request that shows that the server answers."""

    api: Literal["completions", "chat"]
    text: Line
    max_tokens: PositiveInt | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    stream: bool = False
    by: Literal["curl", "openai"] = "curl"
    """With curl, or with the OpenAI library for Python."""


class LmEval(Frozen):
    """An accuracy run with the Language Model Evaluation Harness (``lm_eval``)."""

    tasks: Annotated[tuple[Name, ...], Field(min_length=1)]
    api: Literal["completions", "chat"] = "completions"
    concurrency: PositiveInt | None = None


class BenchServe(Frozen):
    """A load run with ``vllm bench serve``."""

    dataset: Name = "random"
    input_tokens: PositiveInt
    output_tokens: PositiveInt | None = None
    prompts: PositiveInt
    request_rate: Annotated[float, Field(gt=0)] | None = None
    """Requests for each second; None: all at once."""


class Client(Frozen):
    """Requests, an accuracy run and a load run; ``relforge serve --print client`` prints them."""

    asks: tuple[Ask, ...] = ()
    lm_eval: LmEval | None = None
    bench: BenchServe | None = None
