"""What a card serves and what it asks for: models, names and ports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from relforge.card.lint.document import Document
from relforge.card.lint.pasted import yaml_runs
from relforge.card.lint.shell import Command, Word
from relforge.card.lint.steps import Step, option
from relforge.card.lint.variables import expand
from relforge.card.lint.yamltext import load_yaml

_LOCAL = r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|\$\{?\w+\}?|<[^<>]+>|\d+\.\d+\.\d+\.\d+)"
_URL = re.compile(rf"(?:^|[\s'\"=,(])(?:https?://)?({_LOCAL})(?::(\$\{{?\w+\}}?|\d+))?(/[\w./-]*)?")
_ASKS = re.compile(r"^/(?:v1(?:/|$)|health$|generate$)")
_JSON_MODEL = re.compile(r"[\"']model[\"']\s*:\s*[\"']([^\"']+)[\"']")
_PYTHON_MODEL = re.compile(r"\bmodel\s*=\s*[\"']([^\"']+)[\"']")
_BASE_URL = re.compile(r"base_url\s*=\s*f?[\"'](https?://[^\"']+)[\"']")
_VLLM_PORT = "8000"


@dataclass(frozen=True)
class Server:
    """One server. ``names`` is empty when the card does not say what clients have to ask for."""

    model: str
    names: tuple[str, ...]
    port: str | None
    line: int
    within: bool
    step: Step | None = None


@dataclass(frozen=True)
class Request:
    """Something asked of a server on this host. ``model`` and ``port`` are None when not told."""

    line: int
    model: str | None
    port: str | None
    model_line: int = 0
    api: bool = True
    """Whether the path is one of a model's server."""
    within: bool = False
    """Whether the step before it left the reader in a container."""


def servers(document: Document) -> tuple[Server, ...]:
    """Servers started by commands and described by YAML."""
    found = []
    for step in document.steps:
        server = _started(step, document.variables)
        if server is not None:
            found.append(server)
    for first_line, text in _yaml(document):
        try:
            data = load_yaml(text)
        except yaml.YAMLError:
            continue
        for arguments in _engine_arguments(data):
            found.append(_described(arguments, first_line, text))
    return tuple(found)


def _started(step: Step, values: Mapping[str, str]) -> Server | None:
    words = step.command.started
    texts = [word.text for word in words]
    vllm = texts[:2] == ["vllm", "serve"]
    module = "vllm.entrypoints.openai.api_server" in texts
    # An image whose entry point is the server is given its options alone.
    bare = bool(step.run and texts and texts[0].startswith("--") and "--model" in texts)
    other = any(text in ("sglang.launch_server", "api_server") for text in texts)
    if not (vllm or module or bare or other) or "--headless" in texts or "--help" in texts:
        return None
    model = option(words, "--model", "--model-path")
    positional = texts[2] if vllm and len(texts) > 2 and not texts[2].startswith("-") else ""
    served = expand(model[1] if model else positional, values)
    names = tuple(expand(name, values) for name in _names(words))
    if not names and not other:
        names = (served,) if served else ()
    port = option(words, "--port")
    number = expand(port[1], values) if port else _VLLM_PORT if vllm or module else None
    return Server(served, names, number, step.command.line, step.within, step)


def _names(words: tuple[Word, ...]) -> Iterator[str]:
    taking = False
    for word in words:
        name, equals, value = word.text.partition("=")
        if name == "--served-model-name":
            taking = not equals
            if equals:
                yield value
        elif name in ("--lora-modules", "--lora-paths") or word.text.startswith("-"):
            taking = False
        elif taking:
            yield word.text
    yield from _adapters(words)


def _adapters(words: tuple[Word, ...]) -> Iterator[str]:
    """Adapters are served under names of their own."""
    taking = False
    for word in words:
        if word.text.startswith("--"):
            taking = word.text in ("--lora-modules", "--lora-paths")
        elif taking and "=" in word.text:
            yield word.text.partition("=")[0]


def _yaml(document: Document) -> Iterator[tuple[int, str]]:
    for block in document.blocks:
        if block.language in ("yaml", "yml"):
            yield block.first_line, block.text
        elif block.is_shell:
            for number, text in yaml_runs(block):
                yield block.first_line + number, text


def _engine_arguments(data: Any) -> Iterator[Mapping[str, Any]]:
    """Mappings that have a model and a name or port of a server, at whatever depth."""
    if isinstance(data, dict):
        keys = {str(key).replace("-", "_") for key in data}
        if "model" in keys and keys & {"served_model_name", "port", "tensor_parallel_size"}:
            yield {str(key).replace("-", "_"): value for key, value in data.items()}
        else:
            for value in data.values():
                yield from _engine_arguments(value)
    elif isinstance(data, list):
        for value in data:
            yield from _engine_arguments(value)


def _described(arguments: Mapping[str, Any], first_line: int, text: str) -> Server:
    model = str(arguments.get("model") or "")
    name = arguments.get("served_model_name")
    names = tuple(str(one) for one in (name if isinstance(name, list) else [name or model]) if one)
    port = arguments.get("port")
    at = next(
        (number for number, line in enumerate(text.split("\n")) if model and model in line), 0
    )
    return Server(model, names, str(port) if port is not None else None, first_line + at, True)


def requests(document: Document) -> tuple[Request, ...]:
    """What the card asks of servers on this host, by curl, Python, lm_eval and vLLM's benchmark."""
    found = []
    for step in document.steps:
        request = _asked(step.command, document.variables)
        if request is not None:
            found.append(replace(request, within=step.within))
    for block in document.blocks:
        if block.language in ("python", "py"):
            found += _python(block.text, block.first_line)
    return tuple(found)


def _asked(command: Command, values: Mapping[str, str]) -> Request | None:
    words = command.started
    texts = [word.text for word in words]
    if not texts:
        return None
    if texts[0] in ("curl", "wget", "http"):
        return _curl(words, values)
    if texts[0] in ("lm_eval", "lm-eval") or texts[:3] == ["python", "-m", "lm_eval"]:
        given = option(words, "--model_args")
        if given is None or "base_url=" not in given[1]:
            return None
        fields = dict(part.partition("=")[::2] for part in given[1].split(","))
        port = _port_of(fields.get("base_url", ""), values)
        return Request(command.line, _known(fields.get("model"), values), port, given[0].line)
    if texts[:3] == ["vllm", "bench", "serve"]:
        name = option(words, "--served-model-name") or option(words, "--model")
        address, number = option(words, "--base-url"), option(words, "--port")
        port = _port_of(address[1], values) if address else None
        port = port or (_known(number[1], values) if number else None)
        line = name[0].line if name else command.line
        return Request(command.line, _known(name[1], values) if name else None, port, line)
    return None


def _curl(words: tuple[Word, ...], values: Mapping[str, str]) -> Request | None:
    for word in words[1:]:
        text = word.text
        match = _URL.match(text)
        if match is None:
            continue
        api = _ASKS.match(match[3] or "") is not None
        model, line = None, word.line
        for data in words:
            asked = _JSON_MODEL.search(data.text)
            if asked is not None:
                model = _known(asked[1], values)
                line = data.line + data.text[: asked.start()].count("\n")
        return Request(word.line, model, _port_of(text, values), line, api)
    return None


def _python(text: str, first_line: int) -> Iterator[Request]:
    address = _BASE_URL.search(text)
    if address is None or not _URL.match(address[1]):
        return
    line = first_line + text[: address.start()].count("\n")
    yield Request(line, None, _port_of(address[1], {}))
    for match in _PYTHON_MODEL.finditer(text):
        at = first_line + text[: match.start()].count("\n")
        yield Request(at, match[1], None, at)


def _port_of(address: str, values: Mapping[str, str]) -> str | None:
    match = _URL.match(address)
    return _known(match[2], values) if match is not None and match[2] else None


def _known(text: str | None, values: Mapping[str, str]) -> str | None:
    if text is None:
        return None
    full = expand(text, values)
    return None if re.search(r"[$<>{}]", full) else full
