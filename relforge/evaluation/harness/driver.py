"""Evaluation by lm-eval against an endpoint of a served model.

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

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.harness.reading import described, named_result_of, result_of, settings_of
from relforge.evaluation.harness.worker import WorkerRequest
from relforge.evaluation.interface import (
    Asked,
    Evaluated,
    EvaluationRequest,
    NamedTask,
    Prepared,
)
from relforge.evaluation.task import Task, read_questions, read_task, select
from relforge.files import write_atomic
from relforge.frozen import content_key
from relforge.manifest.evaluation import Endpoint

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_Lines = Callable[[str], None] | None


class LmEval:
    """Drives lm-eval (an Evaluator).

    ``work`` is a folder of this evaluation's own: the request and lm-eval's log lie there.
    ``answers`` is where answers are kept as they come; an evaluation that was killed goes on from
    there, if ``identity``, which says what is served, is the same. Whoever has the result removes
    it. Without one, nothing is kept. ``cache`` has the datasets of named tasks, which are fetched
    with the environment ``online``. ``python`` is the interpreter that has the extra ``eval``.
    """

    def __init__(
        self,
        work: Path,
        *,
        answers: Path | None = None,
        identity: str = "",
        cache: Path | None = None,
        online: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.work = work
        self.answers = answers
        self.identity = identity
        self.cache = cache or work / "cache"
        self.online = online
        self.python = python

    @property
    def log(self) -> Path:
        """What lm-eval wrote to its streams in the last run."""
        return self.work / "lm-eval.log"

    def prepare(
        self,
        request: EvaluationRequest,
        *,
        cancel: CancelToken | None = None,
        on_line: _Lines = None,
    ) -> Prepared:
        """See Evaluator.prepare."""
        task = request.task
        if isinstance(task, NamedTask):
            return self._described(task, request, cancel, on_line)
        file = _unaltered(task, request.task_file)
        questions = read_questions(file, task)
        indices = select(questions, request.n, request.seed, request.skip)
        return Prepared(
            settings=settings_of(
                task, len(indices), request.seed, tool_version="", endpoint=request.endpoint
            ),
            questions=tuple(
                Asked(id=one.id, question=one.question, expected=one.answer, group=one.group)
                for one in (questions[index] for index in indices)
            ),
            indices={task.name: indices},
        )

    def evaluate(
        self,
        base_url: str,
        served_name: str,
        request: EvaluationRequest,
        prepared: Prepared | None = None,
        *,
        cancel: CancelToken | None = None,
        on_line: _Lines = None,
    ) -> Evaluated:
        """See Evaluator.evaluate; prepares what is not prepared."""
        task = request.task
        if prepared is None:
            prepared = self.prepare(request, cancel=cancel, on_line=on_line)
        kept = self.answers or self.work / "answers.jsonl"
        if self.answers is None:
            kept.unlink(missing_ok=True)
        asked = self._request(
            request,
            url=endpoint_url(base_url, request.endpoint),
            model=served_name,
            indices={name: list(rows) for name, rows in prepared.indices.items()},
            concurrency=request.concurrency,
            request_timeout_s=request.request_timeout_s,
            answers=str(kept.resolve()),
            identity=content_key(
                {
                    "served": self.identity,
                    "name": served_name,
                    "settings": prepared.settings.model_dump(mode="json"),
                }
            ),
        )
        started = time.monotonic()
        answer = self._run_worker(asked, request.timeout_s, child_env, cancel, on_line)
        try:
            if "error" in answer:
                raise worker_error(answer["error"], str(asked.url), self.log)
            taken = int(answer.get("taken", 0))
            # How long the earlier run took for its answers, nobody noted.
            seconds = None if taken else round(time.monotonic() - started, 3)
            if isinstance(task, NamedTask):
                result = named_result_of(
                    answer, prepared, task, request, seconds=seconds, log=self.log
                )
            else:
                rows = read_questions(_unaltered(task, request.task_file), task)
                result = result_of(
                    answer,
                    task,
                    tuple(rows[i] for i in prepared.indices[task.name]),
                    request.seed,
                    seconds=seconds,
                    endpoint=request.endpoint,
                    log=self.log,
                )
        except RelforgeError as error:
            if error.code is ExitCode.GATE:
                # What the server said before it failed is no half of an evaluation that passed.
                kept.unlink(missing_ok=True)
            raise
        return Evaluated(result=result, from_earlier=taken)

    def _described(
        self,
        task: NamedTask,
        request: EvaluationRequest,
        cancel: CancelToken | None,
        on_line: _Lines,
    ) -> Prepared:
        asked = self._request(request)
        # Datasets that are here already need no hub.
        answer = self._run_worker(asked, request.timeout_s, child_env, cancel, on_line)
        if self.online is not None and answer.get("error", {}).get("kind") == "dataset":
            online = dict(self.online)

            def reaching(cache: Path) -> dict[str, str]:
                hub = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
                return {**child_env(cache), **hub, **online}

            answer = self._run_worker(asked, request.timeout_s, reaching, cancel, on_line)
        if "error" in answer:
            raise worker_error(answer["error"], f"task {task.name}", self.log)
        if task.tool_version not in (None, answer["version"]):
            raise RelforgeError(
                "lm-eval was replaced since the plan was made",
                code=ExitCode.ENVIRONMENT,
                where=self.python,
                why=f"the task {task.name} is lm-eval's own: planned with {task.tool_version}, "
                f"found {answer['version']}",
                hint="run the same command again, so that the plan is made anew",
            )
        return described(answer, task, request)

    def _request(self, request: EvaluationRequest, **words: Any) -> WorkerRequest:
        task = request.task
        out = self.work / "answer.json"
        out.unlink(missing_ok=True)
        named: dict[str, Any] = {}
        if isinstance(task, NamedTask):
            named = task.model_dump(include={"datasets", "metric", "shots", "max_tokens"})
        file = None if isinstance(task, NamedTask) else request.task_file
        return WorkerRequest(
            task=task.name,
            task_file=None if file is None else str(file.resolve()),
            chat=request.endpoint == "chat",
            n=request.n,
            seed=request.seed,
            out=str(out.resolve()),
            **named,
            **words,
        )

    def _run_worker(
        self,
        asked: WorkerRequest,
        timeout_s: float,
        env: Callable[[Path], dict[str, str]],
        cancel: CancelToken | None,
        on_line: _Lines,
    ) -> Mapping[str, Any]:
        """The child's answer. Raises RelforgeError (GATE) when it ends without one."""
        file = self.work / "request.json"
        write_atomic(file, json.dumps(asdict(asked), indent=2).encode())
        lines: list[str] = []

        def line(text: str) -> None:
            lines.append(text)
            if on_line is not None:
                on_line(text)

        try:
            done = proc.run(
                [self.python, "-m", "relforge.evaluation.harness.worker", file.resolve()],
                code=ExitCode.GATE,
                hint="set evaluation.timeout_s higher; answers that came are kept for the next run"
                if self.answers is not None
                else None,
                env=env(self.cache.resolve()),
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
        return answer


def _unaltered(task: Task, file: Path | None) -> Path:
    """The file of a task. Raises RelforgeError (SOURCE) when it is no longer what was read."""
    assert file is not None
    if read_task(file) != task:
        raise RelforgeError(
            "the task file was altered since the plan was made",
            code=ExitCode.SOURCE,
            where=str(file),
            hint="run the same command again, so that the plan is made anew",
        )
    return file


def endpoint_url(base_url: str, endpoint: Endpoint = "completions") -> str:
    """An endpoint of a server, whose root may be given with or without ``/v1``."""
    root = base_url.rstrip("/").removesuffix("/v1")
    return f"{root}/v1/{'chat/' if endpoint == 'chat' else ''}completions"


def child_env(cache: Path) -> dict[str, str]:
    """What the child's environment gets beside ours: offline, a cache of its own, no telemetry."""
    env = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HOME": str(cache),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
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


def worker_error(error: Mapping[str, str], url: str, log: Path) -> RelforgeError:
    """The error that the child reported, with the exit code of its kind."""
    why = f"{error['type']}: {error['text']}".rstrip(": ")
    if error["kind"] == "missing":
        return RelforgeError(
            "evaluating needs lm-eval",
            code=ExitCode.ENVIRONMENT,
            why=why,
            hint="pip install 'relforge[eval]'",
            log=str(log),
        )
    said = error.get("hint")
    if error["kind"] in ("task", "unsupported"):
        return RelforgeError(
            "the task cannot be asked like this",
            code=ExitCode.USAGE,
            where=url,
            why=error["text"],
            hint=said or "choose a task that generates its answers, or an endpoint that can",
            log=str(log),
        )
    if error["kind"] == "dataset":
        return RelforgeError(
            "a dataset cannot be had",
            code=ExitCode.SOURCE,
            where=url,
            why=error["text"],
            hint="check the commit under datasets, and hubs.huggingface of the site configuration",
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
