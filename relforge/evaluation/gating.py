"""From a release's declared tasks to what is asked and what it is compared with."""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import EvaluationRequest, NamedTask
from relforge.evaluation.statistics.datasets import same_task
from relforge.evaluation.task import Task, read_task
from relforge.frozen import Frozen
from relforge.manifest.evaluation import EvaluationTask, Pace
from relforge.manifest.model import Model, Reference
from relforge.manifest.project import Project
from relforge.manifest.reference import ReferenceFigure
from relforge.manifest.release import Release
from relforge.manifest.site import Site

if TYPE_CHECKING:
    from relforge.evaluation.gate import Measured, Reported


class ReferenceInput(Frozen):
    """What a task is compared with: pinned answers, or a figure without any."""

    name: str
    answers: Reference | None = None
    figure: ReferenceFigure | None = None

    def load(self, project: Project) -> Measured | Reported:
        """Reads the answers. Raises RelforgeError (SOURCE) when they are not the pinned ones."""
        from relforge.evaluation.evidence import load_reference
        from relforge.evaluation.gate import Measured, Reported

        if self.answers is None:
            assert self.figure is not None
            return Reported(name=self.name, figure=self.figure)
        pinned = self.answers
        read = load_reference(project.path(pinned.path), sha256=pinned.sha256, task=pinned.task)
        return Measured(name=self.name, result=read)


class TaskInput(Frozen):
    """One task of the gate: what the manifest declares, what it resolved to, and the reference."""

    declared: EvaluationTask
    file: Task | None
    named: NamedTask | None
    reference: ReferenceInput

    @property
    def name(self) -> str:
        """As tool, evidence and references call it."""
        task = self.file or self.named
        assert task is not None
        return task.name

    def request(self, project: Project, pace: Pace) -> EvaluationRequest:
        """What the evaluator is asked."""
        task = self.file or self.named
        assert task is not None
        path = self.declared.file
        return EvaluationRequest(
            task=task,
            task_file=None if path is None else project.path(path),
            n=self.declared.questions,
            seed=self.declared.seed,
            endpoint=self.declared.endpoint,
            **pace.model_dump(),
        )


def task_inputs(project: Project, release: Release, model: Model) -> tuple[TaskInput, ...]:
    """The tasks of a release's gate; empty without an evaluation.

    Raises RelforgeError (USAGE) for a task that cannot be read, or has no reference.
    """
    evaluation = release.evaluation
    if evaluation is None:
        return ()
    return tuple(task_input(project, model, one) for one in evaluation.each)


def task_input(project: Project, model: Model, declared: EvaluationTask) -> TaskInput:
    """One task of a gate. Raises RelforgeError (USAGE) as ``task_inputs`` does."""
    file = named = None
    if declared.file is not None:
        file = read_task(project.path(declared.file))
    else:
        named = NamedTask(
            name=declared.task,
            datasets=declared.datasets,
            metric=declared.metric,
            shots=declared.shots,
            max_tokens=declared.max_tokens,
            tool_version=_tool_version(),
        )
    name = file.name if file is not None else declared.task
    return TaskInput(
        declared=declared,
        file=file,
        named=named,
        reference=_reference(project, model, declared, name),
    )


def _reference(
    project: Project, model: Model, declared: EvaluationTask, name: str
) -> ReferenceInput:
    if declared.reference is None:
        pinned = model.reference
        if pinned is not None and pinned.task == name:
            return ReferenceInput(name=pinned.path, answers=pinned)
        raise _without(
            name,
            f"the model {model.name} pins "
            + ("no reference" if pinned is None else f"the answers to {pinned.task} alone"),
            "name one of manifests/references/ beside the task: reference: NAME",
        )
    reference = project.reference(declared.reference)
    found = [one for one in reference.figures if same_task(one.task, name)]
    if declared.metric is not None and len(found) > 1:
        found = [one for one in found if one.metric == declared.metric]
    if len(found) != 1:
        raise _without(
            name,
            f"{reference.name} has {'several figures' if found else 'no figure'} of it",
            "correct the task's reference, or say its metric",
        )
    (figure,) = found
    if figure.evidence is not None:
        return ReferenceInput(name=figure.evidence.path, answers=figure.evidence)
    return ReferenceInput(name=reference.name, figure=figure)


def _tool_version() -> str | None:
    """Its tasks are part of lm-eval: another version may ask something else."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return None


def _without(task: str, why: str, hint: str) -> RelforgeError:
    return RelforgeError(
        f"{task} has no reference to compare with", code=ExitCode.USAGE, why=why, hint=hint
    )


def online(site: Site, network: dict[str, str]) -> dict[str, str]:
    """The environment in which datasets are fetched: the site's hub, its token, its network."""
    hub = site.hubs.huggingface
    env = dict(network)
    if hub.endpoint is not None:
        env["HF_ENDPOINT"] = hub.endpoint
    if hub.token_file is not None:
        env["HF_TOKEN_PATH"] = str(hub.token_file)
        # The child reads it itself; what it says of it goes through here.
        with suppress(OSError, UnicodeDecodeError):
            redact.register(hub.token_file.read_text())
    return env | {"HF_HUB_DISABLE_XET": "1"}
