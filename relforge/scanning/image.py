"""Searches an image: every layer, then its manifest, its configuration and its history."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relforge.cancel import CancelToken
from relforge.engine.blobs import blob_path
from relforge.engine.layout import ImageFacts, LayerFacts, describe
from relforge.errors import ExitCode
from relforge.files import write_atomic
from relforge.locks import held_lock
from relforge.scanning.archives import search_layer
from relforge.scanning.hits import Hit, LayerReport, Searched
from relforge.scanning.seeking import Finder, Found

_WORDS = "TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_KEY"
_NAME = rf"[A-Z0-9_]*(?:{_WORDS})(?:_[A-Z]+)?"
_VARIABLE = re.compile(rf"({_NAME})=(.*)", re.IGNORECASE | re.DOTALL)
# BuildKit writes the build arguments that a step saw in front of it.
_ARGUMENTS = re.compile(r"(?:RUN )?\|\d+ (?P<arguments>.*?)(?= /bin/| sh | bash |$)", re.DOTALL)
_ASSIGNED = re.compile(rf"(?:^|\s)({_NAME})=(\S+)", re.IGNORECASE)
_NO_VALUE = re.compile(r"|[\"']{2}|[\"']?\$.*|none|false|true|0|1|/.*", re.IGNORECASE | re.DOTALL)


def layer_reports(
    layout: Path,
    finder: Finder,
    *,
    cache: Path,
    policy_key: str,
    locks: Path | None = None,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> Iterator[LayerReport]:
    """Searches each layer of each architecture once.

    ``cache`` keeps what was found, by layer and ``policy_key``; in the folder ``locks`` is a lock
    for each layer, so that releases which run side by side do not search one twice. Raises
    RelforgeError (GATE) for a layer that cannot be read, Cancelled.
    """
    facts = describe(layout, code=ExitCode.GATE)
    layers = {layer.digest: layer for one in facts.each for layer in one.layers}
    for number, layer in enumerate(layers.values(), 1):
        path = cache / policy_key / f"{layer.digest.removeprefix('sha256:')}.json"
        searched, how = _known(path), "known"
        if searched is None:
            with _alone(locks, path.stem, line, cancel):
                searched = _known(path)
                if searched is None:
                    how = "searched"
                    found = Found(finder, layer=layer.digest)
                    search_layer(blob_path(layout, layer.digest), layer.digest, found)
                    searched = found.searched()
                    write_atomic(path, searched.model_dump_json().encode())
        line(
            f"layer {number} of {len(layers)}, {layer.digest[:19]}: {how}, "
            f"{searched.files} files, {len(searched.hits)} hits"
        )
        yield _of_step(layer, searched)


def _alone(
    locks: Path | None, layer: str, line: Callable[[str], None], cancel: CancelToken | None
) -> AbstractContextManager[None]:
    if locks is None:
        return nullcontext()
    lock = locks / f"layer-{layer[:32]}.lock"
    return held_lock(lock, purpose="a layer's search", on_wait=line, cancel=cancel)


def _of_step(layer: LayerFacts, searched: Searched) -> LayerReport:
    """What is known of a layer's content, with the step that made it in this image."""
    step = shown_step(layer.created_by)
    hits = tuple(hit.model_copy(update={"step": step}) for hit in searched.hits)
    return LayerReport(
        digest=layer.digest, step=step, searched=searched.model_copy(update={"hits": hits})
    )


def shown_step(created_by: str) -> str:
    """The first line of a step, without what build arguments it saw."""
    text = _ARGUMENTS.sub("", created_by).strip() or created_by.partition("|")[0].strip()
    rows = [
        row.strip().removeprefix("RUN ").removeprefix("/bin/sh -c ") for row in text.split("\n")
    ]
    rows = [row for row in rows if row not in ("", "set -eu")]
    return (rows[0] if rows else "unknown step")[:120]


def _known(path: Path) -> Searched | None:
    try:
        return Searched.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def search_config(layout: Path, finder: Finder, facts: ImageFacts) -> Searched:
    """Searches manifest and configuration of each architecture, and the index of them: labels,
    variables, commands, history, annotations."""
    found = Found(finder, lines_needed=1)
    digests = {facts.digest: "manifest" if facts.own is None else "index"}
    for one in facts.each:
        digests.setdefault(one.digest, "manifest")
        digests[one.config_digest] = "config"
    for digest, kind in digests.items():
        content = json.loads(blob_path(layout, digest).read_bytes())
        found.files += 1
        for where, value in _texts(kind, content):
            found.size += len(value)
            found.text(where, value.encode())
            for name in _variables(where, value):
                found.note("secret", "variable", f"a value of the variable {name}", where)
    return found.searched()


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string in a JSON value, with its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(f"{where}.{name}", part)
            yield where, str(name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _texts(f"{where}[{number}]", part)


def _variables(where: str, value: str) -> Iterator[str]:
    """Names of variables that hold a secret: in the environment, in build arguments."""
    if where.startswith("config.config.Env["):
        found = _VARIABLE.fullmatch(value)
        if found is not None and not _NO_VALUE.fullmatch(found[2]):
            yield found[1]
    elif ".history[" in where:
        for argument in _ARGUMENTS.finditer(value):
            for name, given in _ASSIGNED.findall(argument["arguments"]):
                if not _NO_VALUE.fullmatch(given):
                    yield name


def hits_of(reports: tuple[LayerReport, ...]) -> tuple[Hit, ...]:
    """All hits of the layers."""
    return tuple(hit for report in reports for hit in report.searched.hits)
