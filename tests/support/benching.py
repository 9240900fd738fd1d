"""Benchmarks for tests: the result files in ``tests/fixtures/benching`` and reports made of them.

They are what `vllm bench serve` of vLLM 0.32.0 wrote when it loaded tiny-adder on 2 cores: 100
prompts of 64 tokens, 8 tokens each in answer, at 1, 4 and 16 at a time. In ``cut-short.json`` are 8
prompts of 230 tokens with 64 in answer, for which the context of 256 is too short, and in
``refused.json`` 8 prompts of 300 tokens, which the server refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from relforge.benching.load import LoadedServer
from relforge.benching.model import (
    BenchReport,
    BenchSettings,
    Level,
    LevelFigures,
    Machine,
    Surroundings,
)
from relforge.benching.tool import read_result
from relforge.cancel import CancelToken
from relforge.engine.containers import Container, ContainerState, Executed
from relforge.manifest.bench import Bench, BenchLevel
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.release import Release
from relforge.serving.client import OpenAIClient
from relforge.serving.model import LaunchSpec
from relforge.serving.smoke import Served
from relforge.serving.spec import launch_spec

FOLDER = Path(__file__).parents[1] / "fixtures" / "benching"
LEVELS = tuple(BenchLevel(concurrency=c, prompts=100) for c in (1, 4, 16))
BENCH = Bench(input_tokens=64, output_tokens=8, levels=LEVELS)


def result_file(
    level: BenchLevel, alter: Callable[[dict[str, Any]], object] | None = None
) -> bytes:
    """The tool's file of a level, altered where a test asks for it."""
    data = (FOLDER / f"concurrency-{level.concurrency}.json").read_bytes()
    if alter is None:
        return data
    values: dict[str, Any] = json.loads(data)
    alter(values)
    return json.dumps(values).encode()


def figures(level: BenchLevel) -> LevelFigures:
    """The figures of a level."""
    return read_result(result_file(level), BENCH, level, seed=0)


def report(**changes: Any) -> BenchReport:
    """A report of the three levels."""
    given: dict[str, Any] = {
        "verdict": "pass", "reason": "192 requests answered in full",
        "settings": BenchSettings(
            bench=BENCH, tool="vllm bench serve", tool_version="0.32.0+cpu",
            served_name="tiny-adder", device="cpu_x86", server_argv=("vllm", "serve"),
            command=("vllm", "bench", "serve"),
        ),
        "machine": Machine(processor="A processor", cores=2, memory_bytes=24_000_000_000,
                           load_average_1min=0.5),
        "image_id": "sha256:" + "ab" * 32, "start_to_ready_s": 13.0,
        "memory_peak_bytes": 2_400_000_000,
        "levels": tuple(
            Level(figures=figures(level),
                  surroundings=Surroundings(other_cores=0.05, prefix_cache_hit_share=None))
            for level in LEVELS
        ),
    }  # fmt: skip
    return BenchReport(**{**given, **changes})


class FakeContainer:
    """Answers what a benchmark runs in a container: the tool takes ``slowness`` times as long as
    it took when the files were written, times what ``noise`` draws."""

    def __init__(
        self,
        *,
        slowness: float = 1.0,
        noise: Callable[[], float] = lambda: 1.0,
        alter: Callable[[dict[str, Any]], object] | None = None,
        code: int = 0,
        ends: bool = False,
    ) -> None:
        self.slowness, self.noise, self.alter = slowness, noise, alter
        self.code, self.ends = code, ends
        self.loads: list[tuple[int, int, int]] = []
        """Concurrency, prompts and seed of every run."""
        self.killed = False
        self.log_path = Path("/no/server.log")
        self._written = b""

    def run_beside(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Executed:
        if argv[0] == "vllm":
            return self._bench(list(argv))
        if argv == ("nproc",):
            return Executed(0, b"2\n", b"")
        texts = {
            "/proc/cpuinfo": b"processor\t: 0\nmodel name\t: A processor\n",
            "/proc/meminfo": b"MemTotal:       24000000 kB\n",
            "/proc/loadavg": b"0.50 0.40 0.30 1/100 5\n",
            "/proc/stat": b"cpu  100 0 100 1000 0 0 0 0 0 0\n",
        }
        if argv[1] in texts:
            return Executed(0, texts[argv[1]], b"")
        return Executed(0, self._written, b"")

    def _bench(self, argv: list[str]) -> Executed:
        def option(name: str) -> int:
            return int(argv[argv.index(name) + 1])

        concurrency, prompts = option("--max-concurrency"), option("--num-prompts")
        self.loads.append((concurrency, prompts, option("--seed")))
        if self.ends:
            return Executed(137, b"", b"")
        if self.code:
            return Executed(self.code, b"", b"vllm: error: unrecognized arguments: --seed\n")
        level = next(level for level in LEVELS if level.concurrency == concurrency)
        values = json.loads(result_file(level, self.alter))
        factor = self.slowness * self.noise()
        for name, value in values.items():
            if name == "duration" or name.endswith("_ms"):
                values[name] = value * factor
            elif name.endswith("_throughput"):
                values[name] = value / factor
        # Fewer prompts than in the file: only the warm-up asks for such.
        if prompts != level.prompts:
            failed = level.prompts - values["completed"]
            values |= {
                "num_prompts": prompts,
                "completed": prompts - failed,
                "output_lens": values["output_lens"][:prompts],
                "itls": values["itls"][:prompts],
                "errors": values["errors"][:prompts],
            }
            values["duration"] *= prompts / level.prompts
        self._written = json.dumps(values).encode()
        return Executed(0, b"Serving Benchmark Result\n", b"")

    def cpu_s(self) -> float:
        return 1.0

    def memory_peak_bytes(self) -> int:
        return 2_400_000_000

    def state(self) -> ContainerState:
        return ContainerState(
            status="exited" if self.ends or self.killed else "running",
            exit_code=137 if self.ends else None,
            oom_killed=self.ends,
        )

    def log_text(self) -> str:
        return ""

    def kill(self) -> None:
        self.killed = True


class FakeClient:
    """A server's version, and its counters of the prefix cache, which rise by a quarter."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, path: str, *, timeout_s: float | None = None) -> bytes:
        if path == "/version":
            return b'{"version": "0.32.0+cpu"}'
        self.asked += 1
        label = 'engine="0",model_name="tiny-adder"'
        return (
            f"# HELP vllm:prefix_cache_queries_total Tokens.\n"
            f"vllm:prefix_cache_queries_total{{{label}}} {1000.0 * self.asked}\n"
            f"vllm:prefix_cache_hits_total{{{label}}} {250.0 * self.asked}\n"
        ).encode()


def release() -> Release:
    """The release that the fakes serve, with the benchmark of the files."""
    found = find_project(builtin_root()).release("tiny-adder-cpu_x86")
    return found.model_copy(update={"bench": BENCH})


def launch() -> LaunchSpec:
    """How it is started."""
    device = find_project(builtin_root()).device("cpu_x86")
    return launch_spec(release(), device, image="sha256:" + "ab" * 32, weights=Path("/weights"))


def loaded(container: FakeContainer, folder: Path) -> LoadedServer:
    """A server that is up, as the benchmark sees it."""
    client = cast(OpenAIClient, FakeClient())
    served = Served("http://127.0.0.1:1", cast(Container, container), client, 13.0, folder / "log")
    return LoadedServer(
        served=served, release=release(), spec=launch(), bench=BENCH, log=folder / "tool.log",
        cancel=CancelToken(), image_id="sha256:" + "ab" * 32,
    )  # fmt: skip
