"""How long stages may take and how often they are tried; no part of any key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relforge.frozen import Frozen

LimitedStage = Literal[
    "preflight", "weights", "sources", "unpatch", "render", "build", "smoke", "evaluate", "bench",
    "coverage", "sbom", "scan", "attest", "card", "publish",
]  # fmt: skip


class StageLimits(Frozen):
    """Of one stage. A failed gate is never tried again: it would be asked until it says yes."""

    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Of one attempt; what it started is ended, and the release fails with exit 3."""
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    """How often it is tried again after an error of sources, builds, places or this host."""
    retry_wait_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Before the first retry; each further one waits twice as long."""
