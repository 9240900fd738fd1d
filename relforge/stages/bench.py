"""Bench: how fast the built digest answers, at each level of a ladder of loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relforge.benching.model import BenchReport
from relforge.evidence.store import Store
from relforge.manifest.bench import Bench as BenchManifest
from relforge.manifest.release import Release
from relforge.plan import Planning
from relforge.serving.inputs import ServingInputs, launch, serving_inputs
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageResult

if TYPE_CHECKING:
    from relforge.files import Output


class BenchInputs(ServingInputs):
    """What is served, and the load it is put under."""

    bench: dict[str, Any]


class BenchResult(StageResult):
    """The report. ``outputs`` are report, server log, log of the load generator, its result files
    of each level, and last, when all were measured, the chart."""

    report: BenchReport
    drawn: bool

    @property
    def chart(self) -> Output | None:
        """The chart; None where a level failed."""
        return self.outputs[-1] if self.drawn else None

    @property
    def raw(self) -> tuple[Output, ...]:
        """The tool's result files, in the order of the levels."""
        return self.outputs[3:-1] if self.drawn else self.outputs[3:]


class Bench(Stage[BenchInputs, BenchResult]):
    """``vllm bench serve`` in the served container; a level with a failed request is a failure."""

    name = "bench"
    title = "benchmark"
    needs = ("weights", "build")
    alone = True
    result_type = BenchResult

    def plan(self, planning: Planning) -> BenchInputs | Skip:
        release = planning.subject.release
        if (reason := release.skip.get("bench")) is not None:
            return Skip(kind="not-needed", reason=reason)
        if release.engine != "vllm":
            engine = "a server of its own" if release.engine == "command" else release.engine
            return Skip(
                kind="not-needed",
                reason=f"the load comes from vLLM's own benchmark, and the engine is {engine}",
            )
        if release.bench is None:
            return Skip(kind="not-needed", reason="the release declares no benchmark")
        if release.serve.proxy is not None:
            return Skip(
                kind="not-built-yet", reason="relforge benches no servers behind a proxy yet"
            )
        return BenchInputs(**serving_inputs(planning), bench=release.bench.model_dump(mode="json"))

    def resources(self, inputs: BenchInputs) -> Resources:
        return inputs.needs

    def run(self, job: Job[BenchInputs], ctx: StageContext) -> BenchResult:
        from relforge.benching.chart import svg
        from relforge.benching.ladder import run_ladder
        from relforge.benching.load import LoadedServer
        from relforge.serving.smoke import serve_context

        release = Release.model_validate(job.inputs.release)
        logs = job.env.run_dir / "logs"
        logs.mkdir(exist_ok=True)
        server_log, tool_log = logs / "server-bench.log", logs / "bench-tool.log"
        tool_log.write_bytes(b"")
        # Its log has a line for each request, thousands of them: they stay in its file.
        ctx.line(f"starting the server; its log: {server_log}")
        with (
            launch(job, ctx) as (engine, spec, _),
            serve_context(
                spec,
                engine,
                run_id=job.env.run_id,
                log_path=server_log,
                cancel=ctx.cancel,
                site=job.env.site.engine,
            ) as served,
        ):
            server = LoadedServer(
                served=served,
                release=release,
                spec=spec,
                bench=BenchManifest.model_validate(job.inputs.bench),
                log=tool_log,
                cancel=ctx.cancel,
                image_id=served.container.image_id,
            )
            report, raw = run_ladder(server, job.env.run_dir / "bench", ctx.line)
        store = Store(job.env.home)
        outputs = [
            store.put_blob(report.model_dump_json(indent=1).encode() + b"\n"),
            *(store.put_blob(path.read_bytes()) for path in (server_log, tool_log, *raw)),
        ]
        drawn = report.verdict == "pass"
        if drawn:
            title = f"{job.env.release}: latency and throughput against load"
            outputs.append(store.put_blob(svg(report, title)))
        return BenchResult(
            verdict=report.verdict,
            reason=report.reason,
            report=report,
            drawn=drawn,
            outputs=tuple(outputs),
        )

    def outcome(self, result: BenchResult) -> str:
        return result.reason
