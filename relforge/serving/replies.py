"""What a server answered, as plain values."""

from __future__ import annotations

from relforge.frozen import Frozen


class Usage(Frozen):
    """Token counts as the server gives them."""

    prompt_tokens: int
    completion_tokens: int


class Logprobs(Frozen):
    """Tokens of an answer with their natural log-probabilities, in order.

    With an echoed prompt the first ones are the prompt's, and the very first has no probability.
    ``likeliest`` is the token that the model found likeliest at each place; empty where the server
    does not say.
    """

    tokens: tuple[str, ...]
    values: tuple[float | None, ...]
    likeliest: tuple[str | None, ...] = ()


class Answer(Frozen):
    """One completion or chat answer. ``seconds`` is the whole request."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    seconds: float
    logprobs: Logprobs | None = None


class GivenUp(Frozen):
    """A streamed request that was given up after its first pieces."""

    pieces: int
    max_tokens: int


class Streamed(Frozen):
    """One streamed completion. ``first_token_s`` counts from sending to the first text."""

    text: str
    pieces: int
    finish_reason: str | None
    usage: Usage | None
    seconds: float
    first_token_s: float | None
    done: bool
    """The stream ended with ``data: [DONE]``."""
    order_faults: tuple[str, ...] = ()
    """What came after its place: text after the finish reason, anything after [DONE]."""

    @property
    def tokens_per_s(self) -> float | None:
        """Completion tokens by the seconds of the whole request, this request alone."""
        if self.usage is None or self.seconds <= 0:
            return None
        return self.usage.completion_tokens / self.seconds
