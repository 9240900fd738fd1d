"""A launch spec as text: shell scripts, Compose files, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.serving.commands import shell_script
from relforge.serving.compose import compose_file
from relforge.serving.model import LaunchSpec, Node

Form = Literal["shell", "compose", "json"]
_SUFFIX: dict[Form, str] = {"shell": ".sh", "compose": ".compose.yaml", "json": ".json"}


def rendered(spec: LaunchSpec, node: Node, form: Form) -> str:
    """One node in that form; JSON has the shape of the whole launch, with this node alone."""
    if form == "shell":
        return shell_script(spec, node)
    if form == "compose":
        return compose_file(spec, node)
    return as_text(spec.model_copy(update={"nodes": (node,)}))


def as_text(spec: LaunchSpec) -> str:
    """The launch as ``relforge serve --print json`` prints it."""
    return json.dumps(spec.as_json(), indent=2, ensure_ascii=False) + "\n"


def only(spec: LaunchSpec, name: str) -> Node:
    """The node of that name, or on that host. Raises RelforgeError (USAGE) for none or several."""
    found = [node for node in spec.nodes if name == spec.name_of(node)]
    found = found or [node for node in spec.nodes if name in (node.host, node.name)]
    if len(found) == 1:
        return found[0]
    raise RelforgeError(
        f"the launch of {spec.release} has {'several nodes' if found else 'no node'} {name!r}",
        code=ExitCode.USAGE,
        why=f"there are {', '.join(map(spec.name_of, spec.nodes))}",
        hint="name one of them with --node",
    )


def write(spec: LaunchSpec, nodes: tuple[Node, ...], form: Form, folder: Path) -> tuple[Path, ...]:
    """One file for each node, with its name; all are rendered before the first is written.

    Shell scripts are executable. Raises RelforgeError (ENVIRONMENT) when it cannot be written.
    """
    texts = {
        folder / f"{spec.name_of(node)}{_SUFFIX[form]}": rendered(spec, node, form)
        for node in nodes
    }
    for path, text in texts.items():
        write_atomic(path, text.encode(), mode=0o755 if form == "shell" else 0o644)
    return tuple(texts)
