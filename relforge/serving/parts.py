"""The servers of a launch: one on all its nodes, or several groups behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.manifest.serve import Group, Proxy


@dataclass(frozen=True)
class Part:
    """One server: the release as this server has it, and its hosts in order of rank."""

    release: Release
    hosts: tuple[HostNode, ...]
    name: str = ""
    """Of the group, or ``proxy``; empty for a launch of one server."""
    role: str | None = None
    proxy: Proxy | None = None


def parts_of(release: Release, hosts: Sequence[HostNode]) -> tuple[Part, ...]:
    """The proxy first, on the first host, then the groups in the order of their hosts."""
    serve = release.serve
    if serve.proxy is None:
        return (Part(release, tuple(hosts)),)
    found = [_proxy_part(release, serve.proxy, hosts)]
    for group, share in shares(serve.groups, hosts):
        of_group = release.model_copy(update={"serve": serve.of_group(group)})
        found.append(Part(of_group, share, group.name, group.role))
    return tuple(found)


def shares(
    groups: Sequence[Group], hosts: Sequence[HostNode]
) -> Iterator[tuple[Group, tuple[HostNode, ...]]]:
    """Each group with its hosts."""
    first = 0
    for group in groups:
        yield group, tuple(hosts[first : first + group.nodes])
        first += group.nodes


def _proxy_part(release: Release, proxy: Proxy, hosts: Sequence[HostNode]) -> Part:
    serve = release.serve
    of_proxy = serve.model_copy(
        update={
            "args": {},
            "env": {},
            "nodes": 1,
            "proxy": None,
            "groups": (),
            "devices": (),
            "mounts": tuple(m for m in serve.mounts if m.name == proxy.mount),
        }
    )
    return Part(
        release.model_copy(update={"serve": of_proxy}), tuple(hosts[:1]), "proxy", "proxy", proxy
    )
