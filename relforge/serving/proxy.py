"""The command of the proxy in front of groups of servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.manifest.serve import Group, Proxy
from relforge.serving.engines.base import ServerCommand
from relforge.serving.parts import shares
from relforge.serving.place import Place

_LISTS: dict[str, tuple[str, Callable[[Group, Place], str]]] = {
    "{prefill_addresses}": ("prefill", lambda _group, place: place.address_of(0)),
    "{prefill_ports}": ("prefill", lambda group, _place: str(group.port)),
    "{decode_addresses}": ("decode", lambda _group, place: place.address_of(0)),
    "{decode_ports}": ("decode", lambda group, _place: str(group.port)),
}


def proxy_command(
    release: Release, proxy: Proxy, place: Place, hosts: Sequence[HostNode]
) -> ServerCommand:
    """The proxy's argv, with one word for each group where a list of them is asked for.

    Requests of a group go to its first node. Raises RelforgeError (USAGE) for a placeholder that is
    unknown, or that the nodes file does not tell.
    """
    own = {"port": str(release.serve.port)}
    words: list[str] = []
    for word in proxy.command:
        listed = _LISTS.get(word)
        if listed is None:
            words.append(place.fill(word, "serve.proxy.command", own))
            continue
        role, value = listed
        found = [
            value(group, Place(release.name, place.container, 0, share, 0))
            for group, share in shares(release.serve.groups, hosts)
            if group.role == role
        ]
        if not found:
            raise RelforgeError(
                f"serve.proxy.command names {word}, and no group has that role",
                code=ExitCode.USAGE,
                where=f"release {release.name}",
                hint=f"add a group with role {role} to serve.groups",
            )
        words += found
    return ServerCommand(argv=tuple(words))
