"""What the smoke test asks of a served image, as a release declares it."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from relforge.frozen import Frozen
from relforge.manifest.common import PositiveInt, Reason, Seconds, Text
from relforge.manifest.serve import AbsolutePath

ProbeName = Literal[
    "container-alive",
    "port",
    "health",
    "version",
    "models",
    "completion",
    "greedy-text",
    "repeat",
    "chat",
    "stream",
    "stop-sequence",
    "max-tokens",
    "logprobs",
    "garble",
    "long-prompt",
    "over-limit",
    "malformed-json",
    "concurrent",
    "cancelled",
    "after-load",
    "flaggems",
    "graceful-stop",
    "device",
]
PROBE_NAMES: tuple[str, ...] = get_args(ProbeName)
"""In the order in which they run."""


class Smoke(Frozen):
    """What the smoke stage asks of the served image."""

    max_tokens: PositiveInt = 8
    """Of an answer to a prompt that no reference was recorded for."""
    request_timeout_s: Seconds = 60.0
    """For one whole answer, also that to the longest prompt."""
    exact: bool = True
    """Greedy texts equal the recorded reference, one by one: a deterministic backend."""
    agreement: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Without ``exact``: the share of the reference's tokens that the server finds likeliest."""
    prompts: tuple[Text, ...] = ()
    """Asked for a longer answer that is read for garble; without them the prompts of the reference,
    or else a question in the model's language."""
    prose_tokens: PositiveInt = 96
    """Of such an answer, at most."""
    long_prompt_tokens: PositiveInt | None = None
    """Of the longest prompt; None: as many as the context takes."""
    concurrency: PositiveInt = 8
    """Requests sent at once."""
    stop_timeout_s: Seconds = 30.0
    """From SIGTERM to the end of the server."""
    flaggems_log: AbsolutePath | None = None
    """Inside the container: where FlagGems records the operators that ran; None: where FlagGems
    and FlagScale put it by themselves."""
    skip: dict[ProbeName, Reason] = {}
    """Probes that are ``not-run`` for this release, each with the reason that users will read."""
