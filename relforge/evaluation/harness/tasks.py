"""lm-eval's tasks by name: loaded from pinned datasets, and described before anything is asked.

Runs in the child process alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_KINDS = ("generate_until", "multiple_choice")


class TaskError(Exception):
    """A task that cannot be asked as the manifest has it; ``hint`` says what to write there."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class DatasetError(Exception):
    """A dataset that is not here, and that the hub did not give."""


@dataclass(frozen=True)
class Named:
    """A task or group of lm-eval's, with what the manifest says of it."""

    name: str
    datasets: Mapping[str, str]
    """Commits by the hub's names."""
    metric: str | None
    shots: int | None
    max_tokens: int | None


class Loaded:
    """The leaf tasks of a name, with their questions."""

    def __init__(self, named: Named, manager: Any = None) -> None:
        self.named = named
        used = _pinned_datasets(named)
        manager = manager or importlib.import_module("lm_eval.tasks").TaskManager()
        if not manager.match_tasks([named.name]):
            raise TaskError(
                f"lm-eval has no task {named.name}", "list them: lm_eval ls tasks; or name a file"
            )
        self.manager = manager
        self.tasks: dict[str, Any] = manager.load([named.name])["tasks"]
        self.datasets = dict(sorted(used.items()))
        for name, task in self.tasks.items():
            _refuse_unfit(name, task)
        self.metric, self.filter = self._chosen_metric()
        self.questions = {name: list(task.eval_docs) for name, task in self.tasks.items()}

    def ids(self) -> list[str]:
        """All questions, in the tasks' order."""
        alone = len(self.tasks) == 1
        return [
            str(number) if alone else f"{name}/{number}"
            for name, docs in self.questions.items()
            for number in range(len(docs))
        ]

    def select(self, n: int, seed: int) -> dict[str, list[int]]:
        """The numbers of n questions by task, chosen as those of a file are."""
        select = importlib.import_module("relforge.evaluation.task").lowest
        everything = [(name, i) for name, docs in self.questions.items() for i in range(len(docs))]
        if n > len(everything):
            raise TaskError(
                f"{n} questions are asked for, but {self.named.name} has {len(everything)}",
                f"set questions to at most {len(everything)}",
            )
        chosen: dict[str, list[int]] = {}
        for position in select(self.ids(), n, seed):
            name, number = everything[position]
            chosen.setdefault(name, []).append(number)
        return chosen

    def described(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        """The settings as lm-eval resolved them, and the chosen questions."""
        first = next(iter(self.tasks.values())).config
        generation = dict(first.generation_kwargs or {})
        if self.named.max_tokens is not None:
            generation["max_gen_toks"] = self.named.max_tokens
        choice = first.output_type == "multiple_choice"
        until = generation.get("until") or []
        return {
            "questions_sha256": _content_hash(self.questions),
            "datasets": self.datasets,
            "output_type": first.output_type,
            "shots": self._same("num_fewshot", self._shots) or 0,
            "temperature": 0.0 if choice else float(generation.get("temperature", 0.0)),
            "top_p": None if choice else generation.get("top_p"),
            "max_tokens": 1 if choice else generation.get("max_gen_toks", 256),
            "stop": [until] if isinstance(until, str) else list(until),
            "prompt_template": str(first.to_dict().get("doc_to_text", "")),
            "metric": self.metric,
            "filter": self.filter,
            "version": str(self._same("version", lambda c: (c.metadata or {}).get("version"))),
            "indices": {name: sorted(numbers) for name, numbers in chosen.items()},
            "questions": [
                question
                for name in self.tasks
                for question in self._questions(name, sorted(chosen.get(name, ())))
            ],
        }

    def _questions(self, name: str, numbers: Iterable[int]) -> Iterable[dict[str, Any]]:
        task, docs = self.tasks[name], self.questions[name]
        alone = len(self.tasks) == 1
        for number in numbers:
            doc = docs[number]
            yield {
                "id": str(number) if alone else f"{name}/{number}",
                "question": str(task.doc_to_text(doc)),
                "expected": expected(task, doc),
                "group": None if alone else name,
            }

    def _shots(self, config: Any) -> Any:
        # lm-eval leaves a task at 0 that says so itself.
        given = self.named.shots
        return config.num_fewshot if given is None or config.num_fewshot == 0 else given

    def _same(self, what: str, read: Any) -> Any:
        values = {name: read(task.config) for name, task in self.tasks.items()}
        if len(set(map(str, values.values()))) > 1:
            raise TaskError(
                f"the tasks of {self.named.name} differ in {what}: "
                + ", ".join(sorted(set(map(str, values.values())))),
                "list them one by one under evaluation.tasks",
            )
        return next(iter(values.values()))

    def _chosen_metric(self) -> tuple[str, str]:
        """The metric and filter that judge an answer."""
        found: list[tuple[str, str]] | None = None
        for task in self.tasks.values():
            metrics = [str(one["metric"]) for one in task.config.metric_list or ()]
            filters = [str(one["name"]) for one in task.config.filter_list or ()] or ["none"]
            has = [(metric, one) for metric in metrics for one in filters]
            found = has if found is None else [one for one in found if one in has]
        named = self.named.metric
        if named is not None:
            metric, _, filtered = named.partition(",")
            fits = [
                one for one in found or () if one[0] == metric and one[1] == (filtered or one[1])
            ]
        else:
            fits = list(found or ())
        if len(fits) == 1:
            return fits[0]
        known = ", ".join(",".join(one).removesuffix(",none") for one in found or ())
        raise TaskError(
            f"{self.named.name} is judged by "
            + ("several metrics" if named is None else f"no single metric {named}")
            + f": {known}",
            "say which one counts: metric",
        )


def expected(task: Any, doc: Any) -> str:
    """The right answer as text: of a choice the choice's own."""
    target = task.doc_to_target(doc)
    if task.config.output_type == "multiple_choice" and isinstance(target, int):
        choices = task.doc_to_choice(doc)
        return str(choices[target])
    return str(target)


def _refuse_unfit(name: str, task: Any) -> None:
    config = task.config
    if config.output_type not in _KINDS:
        raise TaskError(
            f"{name} asks for {config.output_type}, which is no answer that is right or wrong",
            f"choose a task that asks for {' or '.join(_KINDS)}",
        )
    if (config.repeats or 1) != 1:
        raise TaskError(
            f"{name} asks each question {config.repeats} times and lm-eval judges these together",
            "choose a task with repeats: 1; repeats of a question file stand in groups",
        )


def _pinned_datasets(named: Named) -> dict[str, str]:
    """Makes ``datasets`` load pinned commits and nothing else; fills in what was loaded."""
    datasets: Any = importlib.import_module("datasets")
    load = getattr(datasets.load_dataset, "unpinned", datasets.load_dataset)
    used: dict[str, str] = {}

    def pinned(path: str, name: str | None = None, **words: Any) -> Any:
        commit = named.datasets.get(path)
        if commit is None:
            raise TaskError(
                f"{named.name} reads the dataset {path}, and the release pins no commit of it",
                f"datasets: {{{path}: COMMIT}}, in the task of evaluation.tasks",
            )
        used[path] = commit
        try:
            return load(path, name, **{**words, "revision": commit})
        except Exception as error:
            raise DatasetError(f"{path} at {commit}: {type(error).__name__}: {error}") from error

    pinned.unpinned = load  # type: ignore[attr-defined]
    datasets.load_dataset = pinned
    return used


def _content_hash(questions: Mapping[str, list[Any]]) -> str:
    """The hash of all questions of all tasks, whatever the files they came in."""
    total = hashlib.sha256()
    for name, docs in questions.items():
        for doc in docs:
            total.update(json.dumps([name, doc], sort_keys=True, default=str).encode() + b"\n")
    return total.hexdigest()
