"""lm-eval: ``results_*.json`` below its ``--output_path`` (loggers/evaluation_tracker.py).

``results`` has for each task and each group of tasks ``metric,filter`` as a fraction in full
precision, ``n-samples`` how many questions a task has and how many were asked (``--limit``).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from relforge.evaluation.importing.reading import Foreign, Wanted, fraction, validated
from relforge.evaluation.statistics.figures import Figure
from relforge.manifest.common import PositiveInt
from relforge.manifest.reference import AskedWith

_OFF_BY = Decimal("1e-8")
"""Points that a fraction is off after ten digits, and a little more."""


class _Samples(Foreign):
    effective: PositiveInt


class _Generation(Foreign):
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_gen_toks: PositiveInt | None = None


class _Config(Foreign):
    generation_kwargs: _Generation | None = None
    repeats: PositiveInt | None = None


class _Results(Foreign):
    results: dict[str, dict[str, Any]]
    group_subtasks: dict[str, list[str]] = {}
    configs: dict[str, _Config] = {}
    shots: dict[str, Annotated[int, Field(ge=0)]] = Field(alias="n-shot", default={})
    samples: dict[str, _Samples] = Field(alias="n-samples", default={})
    chat_template_sha: Annotated[str, Field(pattern=r"^\S+$")] | None = None


def figures(content: Any, path: Path, wanted: Wanted) -> tuple[Figure, ...]:
    """The wanted figures of tasks and groups; a task that is part of a group is left to its group.

    Raises RelforgeError (USAGE) at the line of what is not as lm-eval writes it.
    """
    read = validated(_Results, content, path, "lm-eval")
    parts = {task for tasks in read.group_subtasks.values() for task in tasks}
    found = []
    for task, rows in read.results.items():
        if task in parts or not wanted(task):
            continue
        for name, value in rows.items():
            metric, comma, _ = name.partition(",")
            # `acc_stderr,none` beside `acc,none`; `alias` and `sample_len` have no filter.
            if not comma or metric.endswith("_stderr"):
                continue
            keys = ("results", task, name)
            found.append(
                Figure(
                    task=task,
                    metric=name.removesuffix(",none"),
                    percent=fraction(value, path, keys),
                    off_by=_OFF_BY,
                    n=_asked(read, task),
                    settings=_settings(read, task),
                    where=str(path),
                )
            )
    return tuple(found)


def _asked(read: _Results, task: str) -> int | None:
    """Questions asked of a task, or of all tasks of a group."""
    if task in read.samples:
        return read.samples[task].effective
    below = [_asked(read, part) for part in read.group_subtasks.get(task, ())]
    counts = [one for one in below if one is not None]
    return sum(counts) if counts and len(counts) == len(below) else None


def _settings(read: _Results, task: str) -> AskedWith:
    config = read.configs.get(task) or _Config()
    generation = config.generation_kwargs or _Generation()
    return AskedWith(
        shots=read.shots.get(task),
        temperature=generation.temperature,
        top_p=generation.top_p,
        max_tokens=generation.max_gen_toks,
        repeats=config.repeats,
        prompt_hash=None
        if read.chat_template_sha is None
        else f"lm-eval-chat-template:{read.chat_template_sha}",
    )
