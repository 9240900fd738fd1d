"""Where the nodes of a launch listen, and what is said of a place that cannot be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.serving.model import LaunchSpec, Node

_MEETING = "where the ranks meet"
_FREE = "a free one, as ranks choose them"
SERVED = "for requests"


class Door(Frozen):
    """A place where a node listens. ``use`` says for what, to people."""

    node: str
    address: str
    port: int
    use: str
    word: str
    """What the listener says, so that nobody else is taken for it."""


class Closed(Frozen):
    """A door that ``asker`` cannot use, and why. The node itself cannot listen there."""

    asker: str
    door: Door
    why: str

    def __str__(self) -> str:
        door, own = self.door, self.asker == self.door.node
        verb = "cannot listen at" if own else f"cannot reach {door.node} at"
        return f"{self.asker} {verb} {door.address} port {door.port} ({door.use}): {self.why}"


class Bind(NamedTuple):
    """Where something will listen; port 0 is a free one."""

    address: str
    port: int
    use: str


def binds_of(spec: LaunchSpec, node: Node) -> list[Bind]:
    """Where the servers will listen: the ranks at the node's address, as they are told to."""
    address = node.address or ""
    found = [Bind(address, 0, _FREE)]
    if node.rendezvous_port is not None:
        found.append(Bind(address, node.rendezvous_port, _MEETING))
    if node == spec.nodes[0]:
        ports = dict.fromkeys((node.port, spec.health_port or node.port))
    else:
        # Of a further server, which the first node asks as its proxy.
        ports = dict.fromkeys((node.port,) if node.role and node.healthcheck else ())
    found += [Bind("0.0.0.0", port, SERVED) for port in ports]  # noqa: S104 (as the server does)
    return found


def not_reached(spec: LaunchSpec, closed: Sequence[Closed]) -> RelforgeError:
    """The error that names each pair that is apart, and each port that is taken."""
    pairs = dict.fromkeys((fault.asker, fault.door.node) for fault in closed)
    names = ", ".join(f"{a} to {b}" if a != b else f"{a} itself" for a, b in pairs)
    return RelforgeError(
        f"the nodes of {spec.release} do not reach each other: {names}",
        code=ExitCode.ENVIRONMENT,
        where=f"release {spec.release}",
        why="\n".join(map(str, closed)),
        hint="open these ports in the firewalls between the nodes (ranks choose further ones "
        "themselves), end what holds a port, or correct address in the nodes file; "
        "--no-check-nodes starts the servers without asking",
    )
