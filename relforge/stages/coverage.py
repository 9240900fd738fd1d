"""Coverage: which operators the model's forward pass dispatches, and who computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from relforge.coverage.container import probe_key
from relforge.coverage.summary import CoverageRow, NotRun, Shares
from relforge.evidence.store import Store
from relforge.manifest.release import Release
from relforge.plan import Planning
from relforge.serving.engines.base import options
from relforge.serving.inputs import ServingInputs, launch, serving_inputs
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageResult

if TYPE_CHECKING:
    from relforge.coverage.container import ProbeEnd
    from relforge.coverage.evidence import CoverageEvidence

_DECODE_STEPS = 8
_PASSES_S = 600.0
"""For the passes, once the engine is up: Triton compiles and tunes every kernel at first use."""


class CoverageInputs(ServingInputs):
    """What runs, with which options, and what watches it."""

    words: tuple[str, ...]
    """Of ``vllm serve``."""
    decode_steps: int
    probe: str


class CoverageResult(StageResult):
    """What was counted; the evidence (``relforge.coverage/1``) is ``outputs[0]``, then the log.

    Nothing of it is there when the probe failed.
    """

    summary: tuple[CoverageRow, ...] = ()
    operators: int = 0
    calls: int = 0
    shares: Shares | NotRun | None = None


class Coverage(Stage[CoverageInputs, CoverageResult]):
    """Runs the probe in the built image, with the release's weights, options and devices."""

    name = "coverage"
    title = "operator coverage"
    needs = ("weights", "build")
    result_type = CoverageResult

    def plan(self, planning: Planning) -> CoverageInputs | Skip:
        release = planning.subject.release
        if (reason := release.skip.get("coverage")) is not None:
            return Skip(kind="not-needed", reason=reason)
        if (skip := _not_watched(release)) is not None:
            return skip
        return CoverageInputs(
            **serving_inputs(planning),
            words=_words(release),
            decode_steps=_DECODE_STEPS,
            probe=probe_key(),
        )

    def resources(self, inputs: CoverageInputs) -> Resources:
        return inputs.needs

    def run(self, job: Job[CoverageInputs], ctx: StageContext) -> CoverageResult:
        from relforge.coverage.container import run_probe
        from relforge.engine.refusals import StartFailed
        from relforge.serving.diagnosis import diagnose
        from relforge.serving.smoke import FAULTS_OF_THE_IMAGE
        from relforge.workarea import work_area

        inputs, env = job.inputs, job.env
        serve = Release.model_validate(inputs.release).serve
        limit_s = serve.ready_timeout_s + _PASSES_S
        log_path = env.run_dir / "logs" / "coverage-probe.log"
        words = ("--decode-steps", str(inputs.decode_steps), "--vllm", "--", *inputs.words)
        with launch(job, ctx) as (engine, spec, _), work_area(env.home, "coverage") as area:
            try:
                ended = run_probe(
                    engine,
                    spec.nodes[0],
                    words,
                    area=area,
                    run_id=env.run_id,
                    release=env.release,
                    log_path=log_path,
                    limit_s=limit_s,
                    cancel=ctx.cancel,
                    on_line=ctx.line,
                )
            except StartFailed as error:
                cause = diagnose("", None, error.why or "")
                if cause is None or cause.id not in FAULTS_OF_THE_IMAGE:
                    raise
                return _failed(f"the probe could not be started in the image: {error.why}")
        accelerated = bool(inputs.device["accelerator"])
        return _result(ended, limit_s, Store(env.home), accelerated=accelerated)

    def outcome(self, result: CoverageResult) -> str:
        return result.reason


def _not_watched(release: Release) -> Skip | None:
    """Why relforge cannot watch the forward pass of a release, if it cannot."""
    kind: Literal["not-needed", "not-built-yet"] = "not-built-yet"
    serve = release.serve
    if release.engine == "command":
        kind = "not-needed"
        reason = "engine 'command' is a server of its own, with no forward pass that relforge knows"
    elif release.engine not in ("vllm", "flagscale"):
        reason = f"relforge watches the forward pass of vLLM, and not yet that of {release.engine}"
    elif serve.nodes > 1 or serve.groups:
        reason = f"relforge watches one host, and this model runs on {serve.nodes}"
        if serve.groups:
            reason = "relforge watches one server, and this release has several"
    elif serve.flagscale is not None and serve.flagscale.tree_config is not None:
        reason = "the engine's options lie in the image, in FlagScale's tree"
    else:
        return None
    return Skip(kind=kind, reason=reason)


def _words(release: Release) -> tuple[str, ...]:
    """Options of one replica's engine: further ones would do the same."""
    serve = release.serve
    sizes = {
        "tensor-parallel-size": serve.tensor_parallel,
        "pipeline-parallel-size": serve.pipeline_parallel,
    }
    return (
        *("--model", serve.model_path.replace("{model}", release.model)),
        *options({name: size for name, size in sizes.items() if size > 1}),
        *options(serve.args),
    )


def _result(ended: ProbeEnd, limit_s: float, store: Store, *, accelerated: bool) -> CoverageResult:
    """``accelerated``: the release's device is an accelerator, so its forward pass runs on one."""
    from relforge.coverage.evidence import load_coverage
    from relforge.coverage.rows import summary_rows
    from relforge.errors import RelforgeError
    from relforge.serving.diagnosis import diagnose, last_words

    if ended.timed_out:
        return _failed(f"the probe was not done after {limit_s:.0f} s; {last_words(ended.log)}")
    if ended.state.exit_code != 0:
        reason = f"the probe {ended.state.shown()}: {last_words(ended.log)}"
        if (cause := diagnose(ended.log, ended.state)) is not None:
            reason += f"\n{cause.explanation}\nlog line: {cause.evidence}\nremedy: {cause.remedy}"
        return _failed(reason)
    if ended.evidence is None:
        return _failed("the probe ended well, and left no evidence")
    file = store.put_blob(ended.evidence)
    try:
        evidence = load_coverage(file.path, sha256=file.sha256)
    except RelforgeError as error:
        return _failed(f"{error.what}: {error.why}")
    if accelerated and evidence.device.kind == "cpu":
        return _failed("the model ran on the processor, and the device of this release is another")
    run = evidence.main
    return CoverageResult(
        verdict="pass",
        reason=_reason(evidence),
        summary=summary_rows(evidence),
        operators=len(run.operators),
        calls=sum(operator.calls for operator in run.operators),
        shares=evidence.shares,
        outputs=(file, store.put_blob(ended.log.encode())),
    )


def _failed(reason: str) -> CoverageResult:
    return CoverageResult(verdict="fail", reason=reason)


def _reason(evidence: CoverageEvidence) -> str:
    from relforge.coverage.rows import share_words

    run, shares = evidence.main, evidence.shares
    counted = (
        f"{len(run.operators)} operators in {sum(o.calls for o in run.operators)} calls counted"
    )
    if isinstance(shares, NotRun):
        return f"{counted}; share that Triton kernels took over: not-run ({shares.not_run})"
    return f"{counted}; Triton kernels took over {share_words(shares)}"
