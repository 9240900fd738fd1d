"""Evaluate: the built digest answers as well as the reference, question by question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relforge.evaluation.interface import EvaluationRequest
from relforge.evaluation.task import read_task
from relforge.evidence.store import Store
from relforge.frozen import Frozen
from relforge.manifest.project import Project
from relforge.manifest.release import Evaluation
from relforge.plan import Planning
from relforge.serving.inputs import ServingInputs, launch, serving_inputs
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageResult

if TYPE_CHECKING:
    from relforge.evaluation.compare import Comparison
    from relforge.evaluation.interface import EvaluationResult


class EvaluateInputs(ServingInputs):
    """What is asked, of what, compared with what; the margin was declared in the manifest."""

    task_path: str
    task: dict[str, Any]
    reference_path: str
    reference_sha256: str
    reference_task: str
    evaluation: dict[str, Any]


class Figures(Frozen):
    """The comparison's numbers, as card and record quote them. Percentages of n questions."""

    task: str
    n: int
    reference_correct: int
    result_correct: int
    reference_percent: float
    result_percent: float
    only_reference: int
    only_result: int
    difference_points: float
    interval_points: tuple[float, float]
    confidence: float
    margin_points: float
    conclusion: str
    tool: str
    tool_version: str


class EvaluateResult(StageResult):
    """Figures, and the per-question evidence as ``outputs[0]``."""

    figures: Figures
    seconds: float


class Evaluate(Stage[EvaluateInputs, EvaluateResult]):
    """lm-eval against the served image, compared with the reference in pairs."""

    name = "evaluate"
    revision = 2
    title = "evaluation"
    needs = ("weights", "build")
    result_type = EvaluateResult

    def plan(self, planning: Planning) -> EvaluateInputs | Skip:
        subject = planning.subject
        if (reason := subject.release.skip.get("evaluate")) is not None:
            return Skip(kind="not-needed", reason=reason)
        evaluation, reference = subject.release.evaluation, subject.model.reference
        if evaluation is None:
            return Skip(kind="not-needed", reason="the release declares no evaluation")
        if reference is None:
            return Skip(kind="not-needed", reason=f"{subject.model.name} has no reference")
        return EvaluateInputs(
            **serving_inputs(planning),
            task_path=evaluation.task,
            task=read_task(subject.project.path(evaluation.task)).model_dump(mode="json"),
            reference_path=reference.path,
            reference_sha256=planning.file_sha256(reference.path),
            reference_task=reference.task,
            evaluation=evaluation.model_dump(mode="json", exclude={"concurrency"}),
        )

    def resources(self, inputs: EvaluateInputs) -> Resources:
        return inputs.needs

    def run(self, job: Job[EvaluateInputs], ctx: StageContext) -> EvaluateResult:
        from relforge.evaluation.compare import compare
        from relforge.evaluation.evidence import evidence_bytes, load_reference
        from relforge.evaluation.lm_eval_driver import LmEval
        from relforge.serving.smoke import serve_context

        inputs = job.inputs
        project = Project(job.env.project_roots)
        evaluation = Evaluation.model_validate(inputs.evaluation)
        # Unreadable references are found before a server is started for nothing.
        reference = load_reference(
            project.path(inputs.reference_path),
            sha256=inputs.reference_sha256,
            task=inputs.reference_task,
        )
        task_file = project.path(inputs.task_path)
        request = EvaluationRequest(
            task=read_task(task_file),
            task_file=task_file,
            n=evaluation.questions,
            seed=evaluation.seed,
            concurrency=evaluation.concurrency,
        )
        work = job.env.run_dir / "lm-eval"
        work.mkdir(exist_ok=True)
        server_log = job.env.run_dir / "logs" / "server-evaluate.log"
        server_log.parent.mkdir(exist_ok=True)
        with (
            launch(job, ctx) as (engine, spec, _),
            serve_context(
                spec,
                engine,
                run_id=job.env.run_id,
                log_path=server_log,
                cancel=ctx.cancel,
                on_line=ctx.line,
                site=job.env.site.engine,
            ) as served,
        ):
            result = LmEval(work).evaluate(
                served.base_url,
                spec.served_name,
                request,
                cancel=ctx.cancel,
                on_line=ctx.line,
            )
        comparison = compare(
            reference.only(outcome.id for outcome in result.outcomes),
            result,
            margin_points=evaluation.margin_points,
        )
        store = Store(job.env.home)
        return EvaluateResult(
            verdict=comparison.verdict,
            reason=comparison.reason,
            figures=_figures(result, comparison),
            seconds=result.seconds or 0.0,
            outputs=(
                store.put_blob(evidence_bytes(result)),
                store.put_blob(server_log.read_bytes()),
            ),
        )

    def outcome(self, result: EvaluateResult) -> str:
        figures = result.figures
        return (
            f"{figures.result_percent:.1f} % of {figures.n} "
            f"(reference {figures.reference_percent:.1f} %), {figures.conclusion}"
        )


def _figures(result: EvaluationResult, comparison: Comparison) -> Figures:
    return Figures(
        task=result.settings.task,
        n=comparison.n,
        reference_correct=comparison.reference_correct,
        result_correct=comparison.result_correct,
        reference_percent=100.0 * comparison.reference_correct / comparison.n,
        result_percent=100.0 * comparison.result_correct / comparison.n,
        only_reference=comparison.only_reference,
        only_result=comparison.only_result,
        difference_points=comparison.difference_points,
        interval_points=comparison.interval_points,
        confidence=comparison.confidence,
        margin_points=comparison.margin_points,
        conclusion=comparison.conclusion,
        tool=result.settings.tool,
        tool_version=result.settings.tool_version,
    )
