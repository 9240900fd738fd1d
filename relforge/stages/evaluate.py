"""Evaluate: the built digest answers as well as its references, task by task."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.evaluation.figures import Figures, said
from relforge.evaluation.gating import TaskInput, task_inputs
from relforge.evaluation.statistics.judging import Conclusion
from relforge.evidence.store import Store
from relforge.frozen import sha256_hex
from relforge.manifest.evaluation import Pace
from relforge.manifest.project import Project
from relforge.plan import Planning
from relforge.serving.inputs import ServingInputs, launch, serving_inputs
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageResult

if TYPE_CHECKING:
    from relforge.evaluation.harness.driver import LmEval


class EvaluateInputs(ServingInputs):
    """What is asked, of what, compared with what; margins were declared in the manifest."""

    tasks: tuple[TaskInput, ...]
    pace: Pace
    """Decides how fast the answers come, not which: no part of the key."""


class EvaluateResult(StageResult):
    """Figures of each task; their evidence, question by question, is ``outputs`` in this order.

    The server's log is the last of ``outputs``. ``verdict`` is ``not-run`` where no reference was
    measured: reported figures prove nothing.
    """

    tasks: tuple[Figures, ...]
    conclusion: Conclusion
    seconds: float
    """Wall time of asking and judging, of the last run."""

    @property
    def from_earlier_runs(self) -> int:
        """Answers that were taken over from a run that was killed."""
        return sum(one.from_earlier_runs for one in self.tasks)

    def evidence(self) -> dict[str, Path]:
        """The evidence files by the names that they have in a release's folder."""
        files = [output.path for output in self.outputs[: len(self.tasks)]]
        if len(files) == 1:
            return {"evaluation.json": files[0]}
        names = [one.task.replace("/", "-") for one in self.tasks]
        return {f"evaluation-{n}.json": file for n, file in zip(names, files, strict=True)}


class Evaluate(Stage[EvaluateInputs, EvaluateResult]):
    """lm-eval against the served image; each task compared with its reference."""

    name = "evaluate"
    revision = 3
    title = "evaluation"
    needs = ("weights", "build")
    result_type = EvaluateResult

    def plan(self, planning: Planning) -> EvaluateInputs | Skip:
        subject = planning.subject
        if (reason := subject.release.skip.get("evaluate")) is not None:
            return Skip(kind="not-needed", reason=reason)
        evaluation = subject.release.evaluation
        if evaluation is None:
            return Skip(kind="not-needed", reason="the release declares no evaluation")
        if subject.model.reference is None and not evaluation.names_references:
            return Skip(kind="not-needed", reason=f"{subject.model.name} has no reference")
        tasks = task_inputs(subject.project, subject.release, subject.model)
        return EvaluateInputs(
            **serving_inputs(planning),
            tasks=tasks,
            pace=evaluation.pace,
        )

    def key(self, inputs: EvaluateInputs) -> str:
        return super().key(inputs.model_copy(update={"pace": Pace()}))

    def resources(self, inputs: EvaluateInputs) -> Resources:
        return inputs.needs

    def run(self, job: Job[EvaluateInputs], ctx: StageContext) -> EvaluateResult:
        from relforge.evaluation.evidence import evidence_bytes
        from relforge.evaluation.gate import against, together
        from relforge.serving.smoke import serve_context

        inputs, env = job.inputs, job.env
        project = Project(env.project_roots)
        requests = [task.request(project, inputs.pace) for task in inputs.tasks]
        # Until there is a result, answers are kept where the next run with this key finds them.
        kept = env.home / "answers" / job.key[:32]
        # Whatever cannot be compared is found before a server is started for nothing.
        references = [task.reference.load(project) for task in inputs.tasks]
        prepared = []
        for task, request, reference in zip(inputs.tasks, requests, references, strict=True):
            with _evaluator(job, task, kept) as evaluator:
                found = evaluator.prepare(request, cancel=ctx.cancel, on_line=ctx.line)
            reference.refuse_unlike(found)
            prepared.append(found)
        server_log = env.run_dir / "logs" / "server-evaluate.log"
        server_log.parent.mkdir(exist_ok=True)
        evaluated = []
        with (
            launch(job, ctx) as (engine, spec, config_digest),
            serve_context(
                spec,
                engine,
                run_id=env.run_id,
                log_path=server_log,
                cancel=ctx.cancel,
                on_line=ctx.line,
                site=env.site.engine,
            ) as served,
        ):
            started = time.monotonic()
            for task, request, one in zip(inputs.tasks, requests, prepared, strict=True):
                with _evaluator(job, task, kept, identity=config_digest) as evaluator:
                    done = evaluator.evaluate(
                        served.base_url,
                        spec.served_name,
                        request,
                        one,
                        cancel=ctx.cancel,
                        on_line=ctx.line,
                    )
                if done.from_earlier:
                    ctx.line(f"{task.name}: {done.from_earlier} answers are of an earlier run")
                evaluated.append(done)
            seconds = round(time.monotonic() - started, 3)
        gate = together(
            [
                against(reference, one, margin_points=task.declared.margin_points)
                for task, reference, one in zip(inputs.tasks, references, evaluated, strict=True)
            ]
        )
        store = Store(env.home)
        result = EvaluateResult(
            verdict=gate.verdict,
            reason=gate.reason,
            tasks=gate.tasks,
            conclusion=gate.conclusion,
            seconds=seconds,
            outputs=(
                *(store.put_blob(evidence_bytes(one.result)) for one in evaluated),
                store.put_blob(server_log.read_bytes()),
            ),
        )
        for line in gate.reason.splitlines():
            ctx.line(line)
        shutil.rmtree(kept, ignore_errors=True)
        return result

    def outcome(self, result: EvaluateResult) -> str:
        earlier = result.from_earlier_runs
        more = f"; {earlier} answers from an earlier run" if earlier else ""
        if len(result.tasks) > 1:
            each = ", ".join(f"{one.task} {one.conclusion}" for one in result.tasks)
            return f"{result.conclusion} ({each}){more}"
        (one,) = result.tasks
        if one.basis == "reported":
            return f"{said(one)}{more}"
        return (
            f"{one.result_percent:.1f} % of {one.n} "
            f"(reference {one.reference_percent:.1f} %), {one.conclusion}{more}"
        )


@contextmanager
def _evaluator(
    job: Job[EvaluateInputs], task: TaskInput, kept: Path, *, identity: str = ""
) -> Iterator[LmEval]:
    """Whoever asks one task; ``identity`` is the image's, beside what the job's key covers."""
    from relforge.evaluation.gating import online
    from relforge.evaluation.harness.driver import LmEval
    from relforge.network import for_children

    env = job.env
    name = sha256_hex(task.name.encode())[:16]
    work = env.run_dir / "lm-eval" / name
    work.mkdir(parents=True, exist_ok=True)
    with for_children(env.site) as network:
        yield LmEval(
            work,
            answers=kept / f"{name}.jsonl",
            identity=f"{job.key} {identity}",
            cache=None if task.named is None else env.home / "datasets" / task.named.datasets_key,
            online=online(env.site, network),
        )
