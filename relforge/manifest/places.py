"""Where a value stands in a YAML or JSON file: ``file:line:column`` of its key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from relforge.manifest.yamlnodes import compose

Keys = tuple[str | int, ...]


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
