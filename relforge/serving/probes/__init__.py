"""What is asked of a served model, in order."""

from __future__ import annotations

from relforge.serving.probes import accelerator, answers, ending, load, protocol, start
from relforge.serving.probes.model import Host, Probe, ProbeFailed, ProbeNotRun, Target
from relforge.serving.probes.running import OnResult, run_probes

PROBES: tuple[Probe, ...] = (
    Probe("container-alive", start.container_alive, vital=True),
    Probe("port", start.port, vital=True),
    Probe("health", start.health, vital=True),
    Probe("version", start.version),
    Probe("models", start.models),
    Probe("completion", answers.completion),
    Probe("greedy-text", answers.greedy_text),
    Probe("repeat", answers.repeat),
    Probe("chat", answers.chat),
    Probe("stream", protocol.stream),
    Probe("stop-sequence", protocol.stop_sequence),
    Probe("max-tokens", protocol.max_tokens),
    Probe("logprobs", protocol.logprobs),
    Probe("garble", answers.prose),
    Probe("long-prompt", load.long_prompt),
    Probe("over-limit", load.over_limit),
    Probe("malformed-json", protocol.malformed_json),
    Probe("concurrent", load.concurrent),
    Probe("cancelled", load.cancelled),
    Probe("after-load", answers.after_load),
    Probe("flaggems", accelerator.flaggems, asks=False),
    Probe("graceful-stop", ending.graceful_stop, asks=False),
    Probe("device", accelerator.device, asks=False),  # what was seen before, while and after
)

__all__ = [
    "PROBES",
    "Host",
    "OnResult",
    "Probe",
    "ProbeFailed",
    "ProbeNotRun",
    "Target",
    "run_probes",
]
