"""What a document is: much that a model card must say, the README of a library need not.

A document is a *card* when any of these holds:

- its front matter is that of a model hub (``base_model``, ``pipeline_tag``, ``library_name`` …);
- it starts a model server, and has a table of results of public benchmarks;
- it starts a model server, and its title is part of the name of a model that its commands name.

A card is a *deployment* when it also starts a server in a container: a reader wants to run what
it describes. The README of a server starts servers, too, but is not named for a model.
"""

from __future__ import annotations

import re

from relforge.card.lint.dockerwords import Docker, calls, inside
from relforge.card.lint.document import Document
from relforge.card.lint.memo import once
from relforge.card.lint.results import result_tables
from relforge.card.lint.shell import Command

_HUB_KEYS = frozenset(
    {"base_model", "pipeline_tag", "library_name", "model-index", "base_model_relation"}
)
_HUB_WEAK = frozenset({"license", "tags", "language", "frameworks", "tasks"})
_NO_MODEL = frozenset(
    {"title", "layout", "sdk", "task_categories", "dataset_info", "configs", "permalink", "name"}
)
_SERVES = re.compile(
    r"(?:\b(?:vllm|flagscale|trtllm|lmdeploy|bentoml|ray)[- ]serve\b|\bapi_server\b|launch_server|"
    r"--served-model-name|served_model_name|\bstart_server\b|/v1/(?:chat/)?completions|"
    r"\blmdeploy serve\b)"
)
_MODEL_ID = re.compile(r"(?<![\w./:-])[A-Za-z0-9][\w.-]*/([A-Za-z][\w.-]*\d[\w.-]*)")


def is_card(document: Document) -> bool:
    """Whether the document describes a model or one deployment of it."""
    return _kind(document)[0]


def is_deployment(document: Document) -> bool:
    """Whether it is a card that tells how to start a server of the model."""
    return _kind(document)[1]


@once
def container_calls(document: Document) -> tuple[Docker, ...]:
    """All calls of container engines, with variables of the card filled in where they decide."""
    values = {name: value for name, (value, _) in variables(document).items()}
    return tuple(calls(document.commands, values))


@once
def all_commands(document: Document) -> tuple[Command, ...]:
    """The commands of all shell blocks, and those that are run in containers."""
    within = (command for call in container_calls(document) for command in inside(call))
    return (*document.commands, *within)


@once
def variables(document: Document) -> dict[str, tuple[str, int]]:
    """What shell variables hold last, and the line: ``${NAME:-value}`` holds ``value``."""
    found: dict[str, tuple[str, int]] = {}
    for command in document.commands:
        pairs = list(command.assigned) if not command.program else []
        if command.program in ("export", "readonly", "declare", "local"):
            pairs += [w.text.partition("=")[::2] for w in command.words[1:] if "=" in w.text]
        for name, value in pairs:
            default = re.fullmatch(r"\$\{\w+:?-([^}]*)\}", value)
            value = default[1].strip("\"'") if default else value
            found[name] = (value, command.line)
    return found


@once
def _kind(document: Document) -> tuple[bool, bool]:
    serves = any(_SERVES.search(block.text) for block in document.blocks)
    starts = any(call.starts for call in container_calls(document))
    if has_hub_head(document):
        return True, serves and starts
    if not serves or not (result_tables(document) or _titled_for_a_model(document)):
        return False, False
    return True, starts


def has_hub_head(document: Document) -> bool:
    """Whether it begins with the front matter that model hubs read."""
    front = document.front_matter
    data = front.data if front is not None else None
    if front is not None and front.error is not None:
        keys = set(re.findall(r"(?m)^([\w-]+):", front.text))
    elif isinstance(data, dict):
        keys = {str(key) for key in data}
    else:
        return False
    return bool(keys & _HUB_KEYS) or (bool(keys & _HUB_WEAK) and not keys & _NO_MODEL)


def _titled_for_a_model(document: Document) -> bool:
    title = next((h.text.lower() for h in document.headings if h.level == 1), "")
    words = {word for word in re.split(r"[^a-z0-9]+", title) if len(word) > 3}
    text = "\n".join(block.text for block in document.blocks)
    models = {match[1].lower() for match in _MODEL_ID.finditer(text)}
    parts = {part for model in models for part in re.split(r"[^a-z0-9]+", model)}
    return bool(words & parts)
