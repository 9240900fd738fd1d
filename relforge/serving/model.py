"""The launch spec as data: what is started to serve a release, always as a list of nodes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from relforge.engine.container_spec import ContainerSpec
from relforge.frozen import Frozen
from relforge.serving.commands import docker_argv, exec_script
from relforge.serving.engines.base import PLAIN, ServerTraits


class Node(ContainerSpec):
    """One host's part of a launch: a container and the port its server listens on inside it."""

    port: int
    host: str = ""
    """The host's name in the nodes file; empty: the one where commands are typed."""
    address: str | None = None
    """Of the host, where the nodes file tells it."""
    context: str | None = None
    """Address of the Docker host, where commands are not typed on the node itself."""
    role: str | None = None
    """``proxy``, ``prefill`` or ``decode``, in a launch of several servers."""
    rendezvous_port: int | None = None
    """Where the ranks of several nodes meet, if that is on this one."""


class LaunchNode(Frozen):
    """One node in the output of ``relforge serve --print json``.

    ``docker_argv`` starts the container; ``exec_script`` starts the same server inside a container
    that runs already, and ``env`` is what it exports.
    """

    name: str
    docker_argv: tuple[str, ...]
    exec_script: str
    env: dict[str, str]
    role: str | None = Field(default=None, exclude_if=lambda role: role is None)
    """Only in a launch of several servers: ``proxy``, ``prefill`` or ``decode``."""


class LaunchOutput(Frozen):
    """What ``relforge serve --print json`` prints; stable. Nodes are in order of rank."""

    release: str
    nodes: tuple[LaunchNode, ...]


class LaunchSpec(Frozen):
    """Everything that is started to serve one release. The first node answers requests."""

    release: str
    served_name: str
    health_path: str
    health_port: int | None = None
    """Inside the container; None: the port that answers requests."""
    ready_timeout_s: float
    nodes: tuple[Node, ...]
    traits: ServerTraits = PLAIN

    def name_of(self, node: Node) -> str:
        """Of a node of this launch: its host's, and the server's where a host has several."""
        host = node.host or node.name
        if sum(other.host == node.host for other in self.nodes) == 1:
            return host
        return f"{host}-{node.name.removeprefix(f'relforge-{self.release}-')}"

    @property
    def output(self) -> LaunchOutput:
        return LaunchOutput(
            release=self.release,
            nodes=tuple(
                LaunchNode(
                    name=self.name_of(node),
                    docker_argv=docker_argv(node),
                    exec_script=exec_script(node),
                    env=dict(node.env),
                    role=node.role,
                )
                for node in self.nodes
            ),
        )

    def as_json(self) -> dict[str, Any]:
        """``{"release", "nodes": [{"name", "docker_argv", "exec_script", "env"}]}``."""
        return self.output.model_dump(mode="json")
