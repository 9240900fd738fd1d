"""What was measured of a served image under load; units stand in the names."""

from __future__ import annotations

from relforge.events import Verdict
from relforge.frozen import Frozen
from relforge.manifest.bench import Bench


class Percentile(Frozen):
    """``p`` percent of the observations took at most so long."""

    p: float
    ms: float


class Latency(Frozen):
    """A latency over ``n`` observations."""

    n: int
    mean_ms: float
    percentiles: tuple[Percentile, ...]

    def at(self, p: float) -> float:
        """The percentile in milliseconds. Raises KeyError for one that was not asked for."""
        for percentile in self.percentiles:
            if percentile.p == p:
                return percentile.ms
        raise KeyError(p)


class LevelFigures(Frozen):
    """One level of the ladder, all of whose requests were answered in full.

    ``ttft`` is the time to the first token, ``itl`` that between two pieces of the stream (most
    often one token each), ``tpot`` the time for each token after the first, as a mean of each
    request, ``e2el`` a whole request.
    """

    concurrency: int
    prompts: int
    seed: int
    duration_s: float
    request_per_s: float
    output_tokens_per_s: float
    input_tokens: int
    output_tokens: int
    ttft: Latency
    itl: Latency
    tpot: Latency
    e2el: Latency


class Surroundings(Frozen):
    """What else went on while a level ran, the start of the load generator included.

    ``other_cores`` is how many cores were taken from the container on average: by other programs,
    and, on a virtual machine, by its host. ``prefix_cache_hit_share`` is the part of the prompts'
    tokens that the server had in its prefix cache. None where that is not to be had.
    """

    other_cores: float | None
    prefix_cache_hit_share: float | None


class Level(Frozen):
    """A level with what went on beside it."""

    figures: LevelFigures
    surroundings: Surroundings


class Machine(Frozen):
    """The host that served, as the container sees it.

    ``load_average_1min`` was read before the server started to answer the ladder, and has the
    server's own start in it.
    """

    processor: str
    cores: int
    memory_bytes: int | None
    load_average_1min: float | None


class BenchSettings(Frozen):
    """How it was measured."""

    bench: Bench
    tool: str
    tool_version: str
    served_name: str
    device: str
    server_argv: tuple[str, ...]
    command: tuple[str, ...]
    """The load generator's, for the first level."""


class BenchReport(Frozen):
    """The ladder as far as it came. With the verdict ``fail``, ``reason`` says why it ended."""

    verdict: Verdict
    reason: str
    settings: BenchSettings
    machine: Machine
    image_id: str
    start_to_ready_s: float
    memory_peak_bytes: int | None
    """Of the first node's container: server, load generator and page cache together."""
    levels: tuple[Level, ...]
