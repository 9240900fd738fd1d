"""What ``relforge init`` asks: of a release, and of a model that no manifest describes yet."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from relforge.checking.rules import QUANTIZED
from relforge.cli.asking import Asker, Reading, one_of, reading
from relforge.errors import RelforgeError
from relforge.manifest.common import Line, Name, Port, PositiveInt, Reason, RelativePath
from relforge.manifest.device import Device
from relforge.manifest.facts import Source
from relforge.manifest.model import Model
from relforge.manifest.project import Project
from relforge.manifest.weights import RepositoryId, TagOrCommit
from relforge.starting.sources import FORMS, read_image, read_source
from relforge.starting.texts import NewTask

Answers = dict[str, Any]
"""By field; a dialog's own, made into typed values at its end."""
ENGINES = {
    "vllm": "vLLM",
    "flagscale": "FlagScale",
    "sglang": "SGLang",
    "paddlenlp": "PaddleNLP",
    "command": "",
}
PRECISIONS: tuple[str, ...] = get_args(Model.model_fields["precision"].annotation)
_FLOATS = ("float32", "float16", "bfloat16")
RELATIONS = ("finetune", "quantized", "merge", "adapter")
WEIGHTS = ("local", "huggingface", "modelscope", "on-request", "by-server")
_HUBS = ("huggingface", "modelscope")


@dataclass(frozen=True)
class Question:
    """One question. Without a default an answer is needed; an empty one makes it optional."""

    field: str
    option: str
    text: str
    read: Reading[Any]
    default: Callable[[Answers], str | None] = lambda _answers: None
    when: Callable[[Answers], bool] = lambda _answers: True


def ask_all(
    asker: Asker,
    questions: Sequence[Question],
    answers: Answers,
    again: Mapping[str, str],
) -> None:
    """Asks what is not answered yet, and anew what ``again`` says was wrong, into *answers*."""
    for question in questions:
        if not question.when(answers):
            answers.pop(question.field, None)
        elif question.field not in answers or question.field in again:
            answers[question.field] = asker.ask(
                question.option,
                question.text,
                question.read,
                default=question.default(answers),
                again=again.get(question.field),
            )


def name_questions(project: Project) -> list[Question]:
    """Which device, model, engine and variant: they make the name."""
    return [
        Question("device", "device", "Device, by name or alias", _found(project.device)),
        Question("model", "model", "Model, a known one or a new name", reading(Name)),
        Question("engine", "engine", f"Engine ({', '.join(ENGINES)})", one_of(*ENGINES)),
        Question("variant", "variant", "Variant, if there are several", reading(Name), _optional),
    ]


def release_questions(
    project: Project, device: Device, has_reference: bool, answers: Answers
) -> list[Question]:
    """The rest of a release; *answers* are those that the dialog fills."""
    stacks = tuple(device.stacks)

    def task(text: str) -> NewTask:
        from relforge.evaluation.task import read_questions, read_task

        path = _found(project.path)(reading(RelativePath)(text))
        count = len(_found(lambda file: read_questions(file, read_task(file)))(path))
        return NewTask(path=text, questions=count)

    def nodes(text: str) -> int:
        count = int(reading(PositiveInt)(text))
        ranks = _ranks(answers)
        return _refuse(f"{count} nodes cannot share {ranks} evenly") if ranks % count else count

    return [
        Question(
            "stack",
            "stack",
            f"Stack of {device.name} ({', '.join(stacks)})",
            one_of(*stacks),
            lambda _answers: device.default_stack,
            lambda _answers: len(stacks) > 1,
        ),
        Question("title", "title", "Title", reading(Line), _title),
        Question(
            "image_reference",
            "image",
            "Somebody else's image that is taken as it is (none: it is built)",
            read_image,
            _optional,
        ),
        Question(
            "image_source",
            "image-source",
            "Where it says that this is the image",
            reading(Source),
            when=lambda answers: answers.get("image_reference") is not None,
        ),
        Question(
            "source",
            "source",
            f"Source of the engine: {FORMS}",
            read_source,
            _optional,
            lambda answers: answers.get("image_reference") is None,
        ),
        Question(
            "command",
            "command",
            "Command of the server, with {model_path}, {port} and {served_name}",
            _words,
            when=lambda answers: answers.get("engine") == "command",
        ),
        Question(
            "served_name",
            "served-name",
            "Name under which the model is served",
            reading(Name),
            lambda answers: answers.get("model"),
        ),
        Question("port", "port", "Port", reading(Port), lambda _answers: "8000"),
        Question(
            "tensor_parallel",
            "tensor-parallel",
            "Accelerators that share one copy of the model (tensor parallel)",
            reading(PositiveInt),
            lambda _answers: "1",
            lambda _answers: device.accelerator,
        ),
        Question(
            "data_parallel",
            "data-parallel",
            "Copies of the model (data parallel, on all nodes together)",
            reading(PositiveInt),
            lambda _answers: "1",
            lambda _answers: device.accelerator,
        ),
        Question(
            "nodes",
            "nodes",
            "Nodes that share them",
            nodes,
            lambda _answers: "1",
            lambda answers: _ranks(answers) > 1,
        ),
        Question(
            "task",
            "task",
            "Evaluation task, a file of the project",
            task,
            _optional,
            lambda _answers: has_reference,
        ),
    ]


def model_questions(root: Path, device: Device | None) -> list[Question]:
    """A model; ``root`` is the project's folder, where local weights lie."""

    def folder_of_project(text: str) -> str:
        path = str(reading(RelativePath)(text))
        return path if (root / path).is_dir() else _refuse(f"the project has no folder {path}")

    def folder(text: str) -> Path:
        path = Path(text).expanduser()
        return path if path.is_dir() else _refuse(f"there is no folder {path}")

    def of_kind(*kinds: str) -> Callable[[Answers], bool]:
        return lambda answers: answers.get("weights") in kinds

    def based(answers: Answers) -> bool:
        return bool(answers.get("base_model"))

    return [
        Question("title", "model-title", "Title of the model", reading(Line), _name),
        Question("summary", "summary", "What it is, in a sentence", reading(Reason)),
        Question("license", "license", "Licence of the weights (SPDX)", reading(Line)),
        Question(
            "license_source", "license-source", "Where that stands (address)", reading(Reason)
        ),
        Question(
            "architecture",
            "architecture",
            "Architecture, as config.json names it",
            reading(Reason),
        ),
        Question("parameters", "parameters", "Parameters, as a number", _count),
        Question(
            "precision",
            "precision",
            f"Precision of the weights ({', '.join(PRECISIONS)})",
            one_of(*PRECISIONS),
        ),
        Question(
            "base_model",
            "base-model",
            "Model that it was made of",
            reading(Reason),
            lambda answers: None if answers.get("precision") in QUANTIZED else "",
        ),
        Question(
            "base_model_relation",
            "base-relation",
            f"What was done to that ({', '.join(RELATIONS)})",
            one_of(*RELATIONS),
            lambda answers: None if answers.get("precision") in _FLOATS else "quantized",
            based,
        ),
        Question(
            "base_license",
            "base-license",
            "Licence of that",
            reading(Line),
            lambda answers: answers.get("license"),
            based,
        ),
        Question("languages", "languages", "Languages (en,zh)", _list, _optional),
        Question(
            "weights", "weights", f"Where the weights are ({', '.join(WEIGHTS)})", one_of(*WEIGHTS)
        ),
        Question(
            "weights_path",
            "weights-path",
            "Folder of the project that holds them",
            folder_of_project,
            when=of_kind("local"),
        ),
        Question(
            "repository",
            "weights-repository",
            "Repository (owner/name)",
            reading(RepositoryId),
            when=of_kind(*_HUBS),
        ),
        Question(
            "branch",
            "weights-revision",
            "Revision: branch, tag or commit, pinned as its commit; or unresolved",
            reading(Reason),
            lambda _answers: "main",
            of_kind("huggingface"),
        ),
        Question(
            "tag",
            "weights-revision",
            "Revision: tag or commit; or unresolved",
            reading(TagOrCommit),
            when=of_kind("modelscope"),
        ),
        Question(
            "weights_folder",
            "weights-folder",
            "Folder here with the same files, to hash them",
            folder,
            _optional,
            of_kind(*_HUBS, "on-request"),
        ),
        Question(
            "what",
            "weights-what",
            "What the server fetches",
            reading(Reason),
            when=of_kind("by-server"),
        ),
        Question(
            "weights_source",
            "weights-source",
            "Where that stands",
            reading(Reason),
            when=of_kind("by-server"),
        ),
        Question(
            "contact",
            "weights-contact",
            "Whom to ask for them",
            reading(Reason),
            lambda _answers: device.vendor.contact if device else None,
            of_kind("on-request"),
        ),
        Question(
            "ask_for",
            "weights-ask-for",
            "What to ask for",
            reading(Reason),
            when=of_kind("on-request"),
        ),
    ]


def _ranks(answers: Answers) -> int:
    return (answers.get("tensor_parallel") or 1) * (answers.get("data_parallel") or 1)


def _optional(_answers: Answers) -> str:
    return ""


def _name(answers: Answers) -> str | None:
    name: str | None = answers.get("name")
    return name


def _title(answers: Answers) -> str | None:
    model, device, engine = (answers.get(name) for name in ("model", "device", "engine"))
    if not (model and isinstance(device, Device) and engine):
        return None
    return f"{model} on {device.title}" + (f" with {shown}" if (shown := ENGINES[engine]) else "")


def _found(look: Callable[[Any], Any]) -> Reading[Any]:
    """What a lookup gives; its error as an answer's."""

    def read(text: Any) -> Any:
        try:
            return look(text)
        except RelforgeError as error:
            told = (error.what, error.hint or error.why)
            raise ValueError("; ".join(part for part in told if part)) from error

    return read


def _words(text: str) -> tuple[str, ...]:
    words = tuple(shlex.split(text))  # raises ValueError of its own
    return words or _refuse("name a program")


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in (word.strip() for word in text.split(",")) if part)


def _count(text: str) -> int:
    """``7615616512``, or ``7.6B`` as model names have it."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", text.replace("_", ""), re.IGNORECASE)
    if number is None:
        raise ValueError("write a number, such as 671000000000 or 671B")
    scale = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[number[2].upper()]
    return int(
        reading(PositiveInt)(str(round(float(number[1]) * scale) if scale > 1 else number[1]))
    )


def _refuse(why: str) -> Any:
    raise ValueError(why)
