"""The child process that runs lm-eval: ``python -m relforge.evaluation.lm_eval_worker REQUEST``.

lm-eval's imports are heavy and it may end the interpreter; both stay in here. REQUEST is a JSON
file with the fields of WorkerRequest (written by lm_eval_driver). The answer goes to the file
``out``: what lm-eval logged, or ``{"error": {"kind", "type", "text"}}``, where kind is
``missing`` (extra not installed), ``server`` (the connection failed or the server refused) or
``crash``; status 1 with an error, 0 without.

Only the standard library is imported up here, so that a missing extra can still be reported.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class WorkerRequest:
    """What the driver asks. ``url`` is the completions endpoint, ``indices`` rows of the data."""

    url: str
    model: str
    task_file: str
    task: str
    indices: list[int]
    seed: int
    concurrency: int
    request_timeout_s: float
    out: str


def main(argv: list[str]) -> int:
    """Runs one request; returns the exit status."""
    request = WorkerRequest(**json.loads(Path(argv[0]).read_text("utf-8")))
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        answer = run(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
        traceback.print_exc()
        answer = {"error": {"kind": _kind(error), "type": type(error).__name__, "text": str(error)}}
    Path(request.out).write_text(json.dumps(answer, ensure_ascii=False), "utf-8")
    return 1 if "error" in answer else 0


def run(request: WorkerRequest) -> dict[str, Any]:
    """What lm-eval did: its version, the settings it used, and its logged samples."""
    for needed in ("aiohttp", "tenacity"):  # lm-eval imports these only when it asks the server
        importlib.import_module(needed)
    evaluator = importlib.import_module("lm_eval.evaluator")
    tasks = importlib.import_module("lm_eval.tasks")
    task_file = Path(request.task_file)
    # lm-eval resolves data files from the current folder; ours are relative to the task file.
    os.chdir(task_file.parent)
    done = evaluator.simple_evaluate(
        model="local-completions",
        model_args={
            "model": request.model,
            "base_url": request.url,
            "tokenizer_backend": None,
            "num_concurrent": request.concurrency,
            "timeout": request.request_timeout_s,
            "max_retries": 3,
            "seed": request.seed,
        },
        tasks=[request.task],
        samples={request.task: request.indices},
        task_manager=tasks.TaskManager(include_path=str(task_file.parent), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        random_seed=request.seed,
        numpy_random_seed=request.seed,
        fewshot_random_seed=request.seed,
    )
    config = done["configs"][request.task]
    return {
        "version": done["lm_eval_version"],
        "config": {
            "doc_to_text": config["doc_to_text"],
            "num_fewshot": config["num_fewshot"],
            "generation_kwargs": config["generation_kwargs"],
        },
        "samples": [_plain(sample) for sample in done["samples"][request.task]],
    }


def _plain(sample: dict[str, Any]) -> dict[str, Any]:
    (metric,) = sample["metrics"]
    return {
        "doc": sample["doc"],
        "filter": sample["filter"],
        "target": sample["target"],
        "answers": sample["filtered_resps"],
        "metric": metric,
        "value": float(sample[metric]),
    }


def _kind(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return "missing"
    # aiohttp and requests may not be imported yet, and their bases differ: told by module.
    modules = {base.__module__.split(".")[0] for base in type(error).__mro__}
    if modules & {"aiohttp", "requests"} or isinstance(error, (ConnectionError, TimeoutError)):
        return "server"
    return "crash"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
