"""Where a node's server runs among the others, and the words that name it in a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.hosts import HostNode, Nodes
from relforge.manifest.loader import load
from relforge.manifest.release import Release

_NAME = r"[A-Za-z_]+(?:\.[A-Za-z0-9_]+)?"
_PLACEHOLDER = re.compile(rf"\{{\{{({_NAME})\}}\}}|\{{({_NAME})\}}")
_KNOWN = (
    *("address", "interface", "interfaces.NAME", "node", "rank"),
    *("first_address", "addresses", "indices"),
)


@dataclass(frozen=True)
class Place:
    """One node of a launch: its rank, all hosts in order of rank, and its accelerators."""

    release: str
    container: str
    """Name of the container, the same on every host."""
    rank: int
    hosts: tuple[HostNode, ...]
    accelerators: int

    @property
    def host(self) -> HostNode:
        return self.hosts[self.rank]

    @property
    def indices(self) -> str:
        """The node's accelerators, as ``0,1,2``."""
        return ",".join(str(index) for index in range(self.accelerators))

    def address_of(self, rank: int) -> str:
        """Raises RelforgeError (USAGE) where the nodes file does not tell it."""
        return self._told(self.hosts[rank], "address")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all nodes, in order of rank. Raises like ``address_of``."""
        return tuple(self.address_of(rank) for rank in range(len(self.hosts)))

    def fill(self, text: str, field: str, also: Mapping[str, str] | None = None) -> str:
        """*text* with its placeholders filled in; ``also`` are further ones with their values.

        Raises RelforgeError (USAGE) for one that is unknown, or that the nodes file does not tell;
        ``field`` is the manifest's, for the message.
        """
        further = also or {}

        def value(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"{{{literal}}}"
            return further[name] if name in further else self._value(name, field, further)

        return _PLACEHOLDER.sub(value, text)

    def _value(self, name: str, field: str, further: Mapping[str, str]) -> str:
        kind, _, purpose = name.partition(".")
        if kind == "interfaces" and purpose:
            found = self.host.interfaces.get(purpose)
            if found is None:
                raise self._missing(self.host, f"interfaces.{purpose}")
            return ",".join(found)
        if name in ("address", "interface"):
            return self._told(self.host, name)
        if name == "first_address":
            return self.address_of(0)
        if name == "addresses":
            return ",".join(self.addresses)
        simple = {"node": self.host.name, "rank": str(self.rank), "indices": self.indices}
        if name not in simple:
            raise RelforgeError(
                f"{field} has an unknown placeholder {{{name}}}",
                code=ExitCode.USAGE,
                where=f"release {self.release}",
                why=f"known are {', '.join(f'{{{known}}}' for known in (*further, *_KNOWN))}",
                hint=f"correct it; {{{{{name}}}}} is the text itself",
            )
        return simple[name]

    def _told(self, host: HostNode, name: str) -> str:
        found = getattr(host, name)
        if found is None:
            raise self._missing(host, name)
        return str(found)

    def _missing(self, host: HostNode, name: str) -> RelforgeError:
        return RelforgeError(
            f"the launch of {self.release} needs {name} of node {host.name}",
            code=ExitCode.USAGE,
            where=f"node {host.name}",
            why="nothing tells it",
            hint="give a nodes file that does: --nodes hosts.yaml (docs/manifests.md)",
        )


def hosts_of(nodes: str, release: Release) -> tuple[HostNode, ...]:
    """What ``--nodes`` means: a count, or a nodes file. Raises RelforgeError (USAGE)."""
    if nodes.isdecimal():
        return numbered(int(nodes), release)
    hosts = load(Path(nodes), Nodes).nodes
    _count(len(hosts), release, nodes)
    return hosts


def numbered(count: int, release: Release) -> tuple[HostNode, ...]:
    """Hosts of which nothing but the number is known."""
    _count(count, release, "--nodes")
    return tuple(HostNode(name=f"node{rank}") for rank in range(count))


def example_hosts(release: Release) -> tuple[HostNode, ...]:
    """Stand-ins with all that a release's launch asks for, to check it without its hosts.

    The addresses are of the block that is reserved for benchmarks (RFC 2544).
    """
    texts = (*release.serve.env.values(), *release.serve.command)
    purposes = re.findall(r"\{interfaces\.([a-z0-9_]+)\}", " ".join(texts))
    return tuple(
        HostNode(
            name=f"node{rank}",
            address=f"198.18.{rank // 250}.{rank % 250 + 1}",
            interface="eth0",
            interfaces=dict.fromkeys(purposes, ("eth0",)),
            mounts={m.name: f"/{m.name}" for m in release.serve.mounts if m.host is None},
        )
        for rank in range(release.serve.nodes)
    )


def _count(count: int, release: Release, where: str) -> None:
    if count != release.serve.nodes:
        raise RelforgeError(
            f"{release.name} runs on {release.serve.nodes} nodes, and {count} are given",
            code=ExitCode.USAGE,
            where=where,
            why="serve.nodes of the release says how its ranks are shared",
            hint=f"give {release.serve.nodes}, or choose another variant of the release",
        )
