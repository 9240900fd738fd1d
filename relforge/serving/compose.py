"""A node of a launch as a Compose file (compose-spec.io), for ``docker compose up``."""

from __future__ import annotations

import re
from typing import Any

import yaml

from relforge.engine.container_spec import Mount, PublishedPort
from relforge.serving.commands import comment
from relforge.serving.model import LaunchSpec, Node

SERVICE = "server"


def compose_file(spec: LaunchSpec, node: Node) -> str:
    """The Compose file that starts one node; no variable is read when it is."""
    content = {"name": _project(node.name), "services": {SERVICE: _literal(_service(node))}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6)
    return comment(spec, node) + text


def _service(node: Node) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "image": node.image,
        "container_name": node.name,
        "entrypoint": [node.argv[0]],
        "command": list(node.argv[1:]),
        "environment": dict(node.env),
        "ports": [_port(port) for port in node.ports],
        "network_mode": node.network,
        "shm_size": None if node.shm_bytes is None else str(node.shm_bytes),
        "mem_limit": None if node.memory_bytes is None else str(node.memory_bytes),
        "devices": [d if ":" in d else f"{d}:{d}" for d in node.devices],
        "volumes": [_volume(mount) for mount in node.mounts],
        "tmpfs": [f"{path}:{options}" for path, options in node.tmpfs.items()],
        "user": node.user,
        "working_dir": node.workdir,
        "runtime": node.runtime,
        "ipc": node.ipc,
        "pid": node.pid,
        "uts": node.uts,
        "group_add": list(node.group_add),
        "cap_add": list(node.cap_add),
        "security_opt": list(node.security_opt),
        "ulimits": dict(node.ulimits),
        "privileged": node.privileged or None,
        "restart": "no",
    }
    if node.gpus:
        gpus = {"driver": "nvidia", "count": node.gpus, "capabilities": ["gpu"]}
        rows["deploy"] = {"resources": {"reservations": {"devices": [gpus]}}}
    # An empty list or mapping says no more than its absence; an empty command does.
    return {k: v for k, v in rows.items() if k == "command" or v not in (None, [], {})}


def _port(port: PublishedPort) -> dict[str, Any]:
    published = {} if port.host is None else {"published": str(port.host)}
    return {"target": port.container, **published, "host_ip": port.address, "protocol": "tcp"}


def _volume(mount: Mount) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": str(mount.host),
        "target": mount.container,
        "read_only": mount.read_only,
        # A path that is missing is an error, as for `docker run --mount`.
        "bind": {"create_host_path": False},
    }


def _literal(value: Any) -> Any:
    """The same with ``$`` doubled in every text, where Compose would put variables in."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return value


def _project(name: str) -> str:
    """A project's name may hold lower-case letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^a-z0-9_-]", "-", name.lower()).lstrip("-_") or "relforge"
