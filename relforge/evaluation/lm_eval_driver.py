"""Evaluation by lm-eval against a served model's completions endpoint.

lm-eval asks, filters and judges; this module chooses the questions, keeps lm-eval offline and in
a process of its own, and refuses a run that did not end with one outcome per question.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import (
    EvaluationRequest,
    EvaluationResult,
    EvaluationSettings,
    Outcome,
    duplicates,
)
from relforge.evaluation.lm_eval_worker import WorkerRequest
from relforge.evaluation.task import Question, Task, read_questions, read_task, reasons, select
from relforge.files import write_atomic
from relforge.frozen import Frozen

TOOL = "lm-eval"
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class _Config(Frozen):
    doc_to_text: str
    num_fewshot: int
    generation_kwargs: dict[str, Any]


class _Sample(Frozen):
    doc: Question
    filter: str
    target: str
    answers: tuple[str, ...] = Field(min_length=1, max_length=1)
    metric: str
    value: float


class _Answer(Frozen):
    version: str
    config: _Config
    samples: tuple[_Sample, ...]


class LmEval:
    """Drives lm-eval (an Evaluator).

    ``work`` is a folder of this evaluation's own: the request, lm-eval's log and its data cache
    lie there. ``python`` is the interpreter that has the extra ``eval``.
    """

    def __init__(self, work: Path, *, python: str = sys.executable) -> None:
        self.work = work
        self.python = python

    @property
    def log(self) -> Path:
        """What lm-eval wrote to its streams in the last run."""
        return self.work / "lm-eval.log"

    def evaluate(
        self,
        base_url: str,
        served_name: str,
        request: EvaluationRequest,
        *,
        cancel: CancelToken | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> EvaluationResult:
        """See Evaluator.evaluate."""
        task = request.task
        if read_task(request.task_file) != task:
            raise RelforgeError(
                "the task file was altered since the plan was made",
                code=ExitCode.SOURCE,
                where=str(request.task_file),
                hint="run the same command again, so that the plan is made anew",
            )
        questions = read_questions(request.task_file, task)
        indices = select(questions, request.n, request.seed, request.skip)
        out = self.work / "answer.json"
        out.unlink(missing_ok=True)
        asked = WorkerRequest(
            url=completions_url(base_url),
            model=served_name,
            task_file=str(request.task_file.resolve()),
            task=task.name,
            indices=list(indices),
            seed=request.seed,
            concurrency=request.concurrency,
            request_timeout_s=request.request_timeout_s,
            out=str(out.resolve()),
        )
        started = time.monotonic()
        answer = self._run_worker(asked, request.timeout_s, cancel, on_line)
        seconds = round(time.monotonic() - started, 3)
        chosen = tuple(questions[index] for index in indices)
        return result_of(answer, task, chosen, request.seed, seconds=seconds, log=self.log)

    def _run_worker(
        self,
        asked: WorkerRequest,
        timeout_s: float,
        cancel: CancelToken | None,
        on_line: Callable[[str], None] | None,
    ) -> Mapping[str, Any]:
        file = self.work / "request.json"
        write_atomic(file, json.dumps(asdict(asked), indent=2).encode())
        lines: list[str] = []

        def line(text: str) -> None:
            lines.append(text)
            if on_line is not None:
                on_line(text)

        try:
            done = proc.run(
                [self.python, "-m", "relforge.evaluation.lm_eval_worker", file.resolve()],
                code=ExitCode.GATE,
                env=child_env(self.work.resolve()),
                # The first entry of the child's module path: a folder with no modules in it.
                cwd=self.work,
                timeout_s=timeout_s,
                check=False,
                cancel=cancel,
                on_line=line,
            )
        finally:
            write_atomic(self.log, "".join(f"{text}\n" for text in lines).encode())
        out = Path(asked.out)
        if not out.exists():
            raise proc.failure(
                done, code=ExitCode.GATE, what="lm-eval crashed before it answered", log=self.log
            )
        answer: Mapping[str, Any] = json.loads(out.read_bytes())
        if "error" in answer:
            raise _worker_error(answer["error"], asked.url, self.log)
        return answer


def completions_url(base_url: str) -> str:
    """The completions endpoint of a server, whose root may be given with or without ``/v1``."""
    return base_url.rstrip("/").removesuffix("/v1") + "/v1/completions"


def child_env(work: Path) -> dict[str, str]:
    """What the child's environment gets beside ours: offline, caches in ``work``, no telemetry."""
    env = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HOME": str(work / "cache"),
        "HF_DATASETS_CACHE": str(work / "cache" / "datasets"),
        "TQDM_DISABLE": "1",
        # lm-eval sends this key to whatever server it asks; a user's own must not go there.
        "OPENAI_API_KEY": "",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")])
        ),
    }
    local = "127.0.0.1,localhost,::1"
    for name in ("NO_PROXY", "no_proxy"):  # the server of a release is reached directly
        env[name] = ",".join(filter(None, [os.environ.get(name), local]))
    return env


def result_of(
    answer: Mapping[str, Any],
    task: Task,
    chosen: tuple[Question, ...],
    seed: int,
    *,
    seconds: float,
    log: Path | None = None,
) -> EvaluationResult:
    """The outcomes in a worker's answer, in the order of the chosen questions.

    Raises RelforgeError (GATE) when lm-eval used other settings than the task file says, or its
    samples are not exactly one per chosen question, judged as right or wrong.
    """

    def refuse(what: str, why: str) -> RelforgeError:
        return RelforgeError(
            what,
            code=ExitCode.GATE,
            where=f"task {task.name}",
            why=why,
            hint="read lm-eval's log, then evaluate again",
            log=str(log) if log else None,
        )

    try:
        read = _Answer.model_validate(answer)
    except ValidationError as error:
        raise refuse("lm-eval's samples have an unknown form", reasons(error)) from error
    if unlike := _settings_unlike(read.config, task):
        raise refuse("lm-eval used other settings than the task file says", unlike)
    ids = [sample.doc.id for sample in read.samples]
    if len(ids) != len(chosen):
        raise refuse(
            "the evaluation is truncated" if len(ids) < len(chosen) else "too many outcomes",
            f"{len(chosen)} questions were asked, {len(ids)} outcomes came back",
        )
    if twice := duplicates(ids):
        raise refuse("questions have more than one outcome", ", ".join(twice[:5]))
    by_id = {sample.doc.id: sample for sample in read.samples}
    outcomes = []
    for question in chosen:
        sample = by_id.get(question.id)
        if sample is None or sample.doc != question or sample.target != question.answer:
            raise refuse("lm-eval asked other questions", f"{question.id} came back altered or not")
        judged = (sample.filter, sample.metric, sample.value)
        if judged not in {(task.filter, task.metric, 0.0), (task.filter, task.metric, 1.0)}:
            raise refuse("an outcome is neither right nor wrong", f"{question.id}: {judged}")
        outcomes.append(
            Outcome(
                id=question.id,
                question=question.question,
                expected=question.answer,
                answer=sample.answers[0],
                correct=sample.value == 1.0,
                group=question.group,
            )
        )
    return EvaluationResult(
        settings=settings_of(task, len(chosen), seed, tool_version=read.version),
        outcomes=tuple(outcomes),
        seconds=seconds,
    )


def settings_of(task: Task, n: int, seed: int, *, tool_version: str) -> EvaluationSettings:
    """The settings of an evaluation of a task by lm-eval; known before it runs."""
    return EvaluationSettings(
        task=task.name,
        task_sha256=task.sha256,
        questions_sha256=task.questions_sha256,
        n=n,
        shots=task.shots,
        temperature=task.temperature,
        seed=seed,
        max_tokens=task.max_tokens,
        stop=task.stop,
        prompt_template=task.prompt_template,
        tool=TOOL,
        tool_version=tool_version,
    )


def _settings_unlike(used: _Config, task: Task) -> str:
    generation = used.generation_kwargs
    rows = (
        ("doc_to_text", used.doc_to_text, task.prompt_template),
        ("num_fewshot", used.num_fewshot, task.shots),
        ("until", generation.get("until"), list(task.stop)),
        ("temperature", generation.get("temperature"), task.temperature),
        ("max_gen_toks", generation.get("max_gen_toks"), task.max_tokens),
    )
    return "; ".join(f"{name}: {was!r}, not {say!r}" for name, was, say in rows if was != say)


def _worker_error(error: Mapping[str, str], url: str, log: Path) -> RelforgeError:
    why = f"{error['type']}: {error['text']}".rstrip(": ")
    if error["kind"] == "missing":
        return RelforgeError(
            "evaluating needs lm-eval",
            code=ExitCode.ENVIRONMENT,
            why=why,
            hint="pip install 'relforge[eval]'",
            log=str(log),
        )
    if error["kind"] == "server":
        return RelforgeError(
            "the server stopped answering during the evaluation",
            code=ExitCode.GATE,
            where=url,
            why=why,
            hint="read the server's log; relforge smoke shows whether it serves at all",
            log=str(log),
        )
    return RelforgeError(
        "lm-eval crashed",
        code=ExitCode.GATE,
        where=url,
        why=why,
        hint="read lm-eval's log for its traceback",
        log=str(log),
    )
