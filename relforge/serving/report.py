"""What the probes of a server found, as evidence: a plan reads it, and needs no server for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from relforge.engine.container_spec import ContainerState
from relforge.events import Verdict
from relforge.frozen import Frozen

Certainty = Literal["certain", "likely"]
"""``likely``: the evidence is only a warning, which servers also survive."""
When = Literal["before", "serving", "after"]


class Change(Frozen):
    """The one place of a manifest that mends a cause. Sizes are bytes."""

    field: str
    """As in the manifest, e.g. ``serve.shm_bytes`` or ``serve.args.max-model-len``."""
    now: str | None
    """Its value; None when the manifest does not set it and it has no default."""
    where: str | None
    """``file:line`` of the value, or of the section it belongs in."""
    set: str | None
    """The line to write, e.g. ``shm_bytes: 268435456``; None when no value follows."""


class Cause(Frozen):
    """A recognised cause. ``line`` is the evidence's line number in the text, from 1; 0: none."""

    id: str
    explanation: str
    remedy: str
    field: str
    """The manifest field that mends it, e.g. ``serve.shm_bytes``."""
    evidence: str
    line: int = 0
    certainty: Certainty = "certain"
    facts: dict[str, str] = Field(default={}, exclude_if=lambda facts: not facts)
    """What the evidence says by name: ``needed``, ``port``, ``file`` ..."""
    change: Change | None = Field(default=None, exclude_if=lambda change: change is None)


class DeviceSample(Frozen):
    """What the vendor's query program printed, and the bytes in use of each device it lists."""

    when: When
    output: str
    used_bytes: tuple[int, ...]


class ProbeResult(Frozen):
    """One probe's outcome. ``seconds`` is wall time."""

    name: str
    verdict: Verdict
    reason: str
    seconds: float
    cause: Cause | None = None

    def shown(self) -> str:
        """One line of a log."""
        return f"{self.verdict}: {self.name} ({self.seconds:.2f} s) {self.reason}"


class ProbeReport(Frozen):
    """What the probes of one server saw. Figures are None when it did not come that far.

    ``tokens_per_s`` is completion tokens by seconds of one streamed request, alone on the server.
    """

    verdict: Verdict
    reason: str
    cause: Cause | None
    probes: tuple[ProbeResult, ...]
    server_version: str | None = None
    max_model_len: int | None = None
    """Tokens of prompt and answer together, as the server says."""
    first_token_ms: float | None = None
    tokens_per_s: float | None = None


class SmokeReport(ProbeReport):
    """What smoke saw of an image that it started and stopped itself.

    ``device`` is what the vendor's query program printed before, while and after. ``image_id`` is
    what the engine ran: the manifest (or index) digest with containerd's image store, the config
    digest with the classic one; ``config_digest`` is only known in the latter case or when the
    caller named it.
    """

    start_to_ready_s: float | None = None
    stop_s: float | None = None
    """From SIGTERM to its end."""
    launch_s: float | None = None
    """In which the engine made the container and started it; ``start_to_ready_s`` begins then."""
    overhead_s: float | None = None
    """What the smoke test added: neither launch, start nor stop of the server, nor a request."""
    device: tuple[DeviceSample, ...] = ()
    memory_peak_bytes: int | None = None
    state: ContainerState
    image_id: str | None = None
    config_digest: str | None
    server_log: Path
