"""Where a value stands: ``file:line:column`` of a key in a manifest that loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from relforge.errors import RelforgeError
from relforge.manifest.yamlnodes import compose

Keys = tuple[str | int, ...]
_EXACT = re.compile(r":\d+(:\d+)?$")
_NAMED = re.compile(r"\b(?:serve|build|evaluation|smoke|weights|reference|stacks)(?:[./][\w-]+)+")


def place(file: Path, keys: Sequence[str | int]) -> str:
    """The place of the last of *keys* that the file has, as ``file:line:column``."""
    try:
        node = compose(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return str(file)
    mark = node.start_mark if node is not None else None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(key)), None)
            if found is None:
                break
            mark, node = found[0].start_mark, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            mark = node.start_mark
        else:
            break
    return str(file) if mark is None else f"{file}:{mark.line + 1}:{mark.column + 1}"


def is_exact(where: str | None) -> bool:
    """Whether a place names its line."""
    return where is not None and _EXACT.search(where) is not None


def device_fact(where: str | None) -> tuple[str, Keys] | None:
    """Device and path of a fact, where an error names it as ``devices/NAME.yaml: PATH``."""
    found = re.search(r"devices/([A-Za-z0-9_]+)\.yaml: ([\w./-]+)$", where or "")
    if found is None:
        return None
    keys = (int(part) if part.isdigit() else part for part in found[2].split("/"))
    return found[1], tuple(keys)


def named_in(error: RelforgeError, otherwise: Keys) -> Keys:
    """The path of keys that an error's text names (``serve.port``), else *otherwise*."""
    for text in (error.what, error.where, error.why, error.hint):
        if text and (found := _NAMED.search(text)):
            return tuple(re.split(r"[./]", found.group()))
    return otherwise
