"""The machine around a benchmark, read through the container: so it is the host that serves."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass

from relforge.benching.model import Machine
from relforge.engine.containers import Container
from relforge.serving.client import OpenAIClient, ServerFault

_TICKS_PER_S = 100
"""Linux's USER_HZ, in which /proc/stat counts on every architecture that this runs on."""


def machine(container: Container) -> Machine:
    """Processor, cores and memory of the host, or what the container may use of them."""
    cpuinfo = _read(container, "/proc/cpuinfo")
    # x86 says "model name"; Arm servers often say nothing but numbers.
    model = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _read(container, "/proc/meminfo"), re.MULTILINE)
    cores = container.run_beside(("nproc",))
    load = _read(container, "/proc/loadavg").split()
    return Machine(
        processor=model[1].strip() if model else "unknown",
        cores=int(cores.stdout) if cores.code == 0 else cpuinfo.count("processor\t:"),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
        load_average_1min=float(load[0]) if load else None,
    )


@dataclass(frozen=True)
class Moment:
    """Counters at one time; what lies between two of them tells who used the processor."""

    at_s: float
    busy_s: float | None
    """Seconds of one core that the host did not idle, the time stolen by its own host included."""
    container_s: float | None


def moment(container: Container) -> Moment:
    """The counters now."""
    line = _read(container, "/proc/stat").partition("\n")[0].split()
    busy_s = None
    if line[:1] == ["cpu"] and len(line) >= 9:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
        busy_s = (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    return Moment(at_s=time.monotonic(), busy_s=busy_s, container_s=container.cpu_s())


def other_cores(before: Moment, after: Moment) -> float | None:
    """Cores that were busy with something else than the container, on average between the two."""
    seconds = after.at_s - before.at_s
    if (
        before.busy_s is None
        or after.busy_s is None
        or before.container_s is None
        or after.container_s is None
        or seconds <= 0
    ):
        return None
    others_s = after.busy_s - before.busy_s - (after.container_s - before.container_s)
    return max(0.0, others_s) / seconds


def memory_peak_bytes(container: Container) -> int | None:
    """Most memory the container has used so far; None where nobody says, or it has ended."""
    from docker.errors import DockerException

    with suppress(DockerException):
        return container.memory_peak_bytes()
    return None


@dataclass(frozen=True)
class PrefixCache:
    """vLLM's own counters: tokens looked up in the prefix cache, and found there."""

    queries: float
    hits: float


def prefix_cache(client: OpenAIClient) -> PrefixCache | None:
    """The counters now, or None where the server has none."""
    try:
        text = client.get("/metrics").decode("utf-8", "replace")
    except ServerFault:
        return None
    found: dict[str, float] = {}
    for name, value in re.findall(
        r"^vllm:prefix_cache_(queries|hits)_total\{[^}\n]*\} (\S+)$", text, re.MULTILINE
    ):
        found[name] = found.get(name, 0.0) + float(value)
    return PrefixCache(found["queries"], found["hits"]) if len(found) == 2 else None


def hit_share(before: PrefixCache | None, after: PrefixCache | None) -> float | None:
    """The part of the tokens looked up between the two that was found."""
    if before is None or after is None or after.queries <= before.queries:
        return None
    return (after.hits - before.hits) / (after.queries - before.queries)


def _read(container: Container, path: str) -> str:
    done = container.run_beside(("cat", path))
    return done.stdout.decode("utf-8", "replace") if done.code == 0 else ""
