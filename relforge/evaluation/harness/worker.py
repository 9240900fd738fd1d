"""The child process that runs lm-eval: ``python -m relforge.evaluation.harness.worker REQUEST``.

lm-eval's imports are heavy and it may end the interpreter; both stay in here. REQUEST is a JSON
file with the fields of WorkerRequest (written by ``driver``). The answer goes to the file
``out``: what lm-eval logged, or ``{"error": {"kind", "type", "text", "hint"}}``, where kind is

- ``missing``: the extra is not installed
- ``task``: the task cannot be asked as the manifest has it
- ``dataset``: a dataset is not here and the hub did not give it
- ``unsupported``: the server cannot be asked in this way
- ``server``: the connection failed, the server refused or gave something that is no answer
- ``crash``: anything else

Status 1 with an error, 0 without. Only the standard library is imported up here, so that a
missing extra can still be reported.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from relforge.evaluation.answers import AnswerLog
from relforge.evaluation.harness.model import ServerFaultError, UnsupportedError, model
from relforge.evaluation.harness.tasks import DatasetError, Loaded, Named, TaskError


@dataclass(frozen=True)
class WorkerRequest:
    """What the driver asks. ``url`` is the endpoint; without one the task is only described.

    ``task_file`` is None for a task of lm-eval's. ``indices`` are the questions by task; empty
    where they are to be chosen.
    """

    task: str
    out: str
    task_file: str | None = None
    url: str | None = None
    chat: bool = False
    model: str = ""
    n: int = 0
    indices: dict[str, list[int]] = field(default_factory=dict)
    seed: int = 0
    concurrency: int = 1
    request_timeout_s: float = 60.0
    answers: str = ""
    """Where answers are kept."""
    identity: str = ""
    """What decides the answers; see AnswerLog."""
    datasets: dict[str, str] = field(default_factory=dict)
    metric: str | None = None
    shots: int | None = None
    max_tokens: int | None = None


def main(argv: list[str]) -> int:
    """Runs one request; returns the exit status."""
    request = WorkerRequest(**json.loads(Path(argv[0]).read_text("utf-8")))
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        answer = run(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
        traceback.print_exc()
        answer = {
            "error": {
                "kind": _kind(error),
                "type": type(error).__name__,
                "text": str(error),
                "hint": getattr(error, "hint", ""),
            }
        }
    Path(request.out).write_text(json.dumps(answer, ensure_ascii=False), "utf-8")
    return 1 if "error" in answer else 0


def run(request: WorkerRequest) -> dict[str, Any]:
    """What lm-eval did, or, without a server, what it would ask."""
    for needed in ("aiohttp", "tenacity"):  # lm-eval imports these only when it asks the server
        importlib.import_module(needed)
    if request.task_file is not None:
        return _of_file(request, Path(request.task_file))
    named = Named(request.task, request.datasets, request.metric, request.shots, request.max_tokens)
    loaded = Loaded(named)
    chosen = request.indices or loaded.select(request.n, request.seed)
    described = loaded.described(chosen)
    version = metadata.version("lm_eval")
    if request.url is None:
        return {"version": version, "described": described}
    done, taken = _evaluated(
        request,
        # Tasks of which no question was chosen are left out.
        tasks=[task for name, task in loaded.tasks.items() if name in chosen],
        manager=loaded.manager,
        indices=described["indices"],
        tokenize=described["output_type"] == "multiple_choice",
    )
    return {
        "version": done["lm_eval_version"],
        "taken": taken,
        "described": described,
        "shots": {name: done["n-shot"].get(name) for name in chosen},
        "samples": [
            {
                **_plain(sample, loaded.metric),
                "task": name,
                "number": sample["doc_id"],
                "prompt_hash": sample["prompt_hash"],
            }
            for name in chosen
            for sample in done["samples"][name]
            if sample["filter"] == loaded.filter
        ],
    }


def _of_file(request: WorkerRequest, task_file: Path) -> dict[str, Any]:
    tasks = importlib.import_module("lm_eval.tasks")
    # lm-eval resolves data files from the current folder; ours are relative to the task file.
    os.chdir(task_file.parent)
    done, taken = _evaluated(
        request,
        tasks=[request.task],
        manager=tasks.TaskManager(include_path=str(task_file.parent), include_defaults=False),
        indices=request.indices,
        tokenize=False,
    )
    config = done["configs"][request.task]
    return {
        "version": done["lm_eval_version"],
        "taken": taken,
        "config": {
            "doc_to_text": config["doc_to_text"],
            "num_fewshot": config["num_fewshot"],
            "generation_kwargs": config["generation_kwargs"],
        },
        "samples": [_of_row(sample) for sample in done["samples"][request.task]],
    }


def _evaluated(
    request: WorkerRequest,
    *,
    tasks: list[Any],
    manager: Any,
    indices: dict[str, list[int]],
    tokenize: bool,
) -> tuple[dict[str, Any], int]:
    """lm-eval's results, and how many answers an earlier run had got."""
    evaluator = importlib.import_module("lm_eval.evaluator")
    version = metadata.version("lm_eval")
    log = AnswerLog(Path(request.answers), f"{request.identity} lm-eval {version}")
    try:
        if log.earlier:
            logging.info("%d answers of an earlier run are here", log.earlier)
        assert request.url is not None
        asked = model(
            url=request.url,
            chat=request.chat,
            name=request.model,
            concurrency=request.concurrency,
            timeout_s=request.request_timeout_s,
            seed=request.seed,
            log=log,
            tokenize=tokenize,
        )
        done = evaluator.simple_evaluate(
            model=asked,
            tasks=tasks,
            samples=indices,
            task_manager=manager,
            apply_chat_template=request.chat,
            num_fewshot=request.shots,
            gen_kwargs=None if request.max_tokens is None else {"max_gen_toks": request.max_tokens},
            log_samples=True,
            bootstrap_iters=0,
            random_seed=request.seed,
            numpy_random_seed=request.seed,
            fewshot_random_seed=request.seed,
        )
        return done, log.taken
    finally:
        log.close()


def _of_row(sample: dict[str, Any]) -> dict[str, Any]:
    (metric,) = sample["metrics"]
    return {"doc": sample["doc"], "target": sample["target"], **_plain(sample, metric)}


def _plain(sample: dict[str, Any], metric: str) -> dict[str, Any]:
    return {
        "filter": sample["filter"],
        "answers": [_answer(sample, metric)],
        "finish": getattr(sample["resps"][0][0], "finish", None),
        "metric": metric,
        "value": float(sample[metric]),
    }


def _answer(sample: dict[str, Any], metric: str) -> str:
    """The text that was judged; of choices the one that was taken, with all log-likelihoods."""
    answers = sample["filtered_resps"]
    if len(answers) == 1 and isinstance(answers[0], str):
        return answers[0]
    if not all(isinstance(one, (list, tuple)) for one in answers):
        return json.dumps(answers[0] if len(answers) == 1 else answers, ensure_ascii=False)
    likelihoods = [float(one[0]) for one in answers]
    choices = [str(words[1]).strip() for words in sample["arguments"]]
    # As lm-eval does it: by the length of the choice.
    by = [max(1, len(one)) if metric == "acc_norm" else 1 for one in choices]
    best = max(range(len(choices)), key=lambda i: likelihoods[i] / by[i])
    return f"{choices[best]} ({' '.join(f'{one:.4f}' for one in likelihoods)})"


def _kind(error: BaseException) -> str:
    known = {
        DatasetError: "dataset",
        TaskError: "task",
        UnsupportedError: "unsupported",
        ServerFaultError: "server",
        ImportError: "missing",
    }
    for one in (error, error.__cause__):
        for kind, name in known.items():
            if isinstance(one, kind):
                return name
    # aiohttp and requests may not be imported yet, and their bases differ: told by module.
    modules = {base.__module__.split(".")[0] for base in type(error).__mro__}
    if modules & {"aiohttp", "requests"} or isinstance(error, (ConnectionError, TimeoutError)):
        return "server"
    return "crash"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
