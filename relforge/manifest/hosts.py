"""The nodes file: on which hosts a release is started. It belongs to a site, not to a release."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import Name
from relforge.manifest.serve import AbsolutePath

_HOST_NAME = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?)+")


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # 10.0.0.256 fits the pattern of host names, and is none.
        if not _HOST_NAME.fullmatch(text) or re.fullmatch(r"[0-9.]+", text):
            raise ValueError("must be an IP address or a host name") from None
    return text


def _context(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # The library's words repeat a part of the address, which may be one of a password.
        raise ValueError("is no address of a Docker host") from None
    remote = parts.scheme in ("ssh", "tcp") and parts.hostname
    if not remote and not (parts.scheme == "unix" and parts.path.startswith("/")):
        raise ValueError("must be ssh://[user@]host[:port], tcp://host:port or unix:///path")
    if parts.password is not None:
        raise ValueError("must hold no password: it would end in argument lists")
    if parts.scheme == "tcp" and port is None:
        raise ValueError("must be tcp://host:port")
    if parts.query or parts.fragment or any(ord(c) <= 32 or ord(c) == 127 for c in text):
        raise ValueError("must be an address alone")
    return text


NodeAddress = Annotated[str, AfterValidator(_address)]
"""An IP address or a host name."""
# IFNAMSIZ of Linux: 15 characters, neither a slash nor a space.
Interface = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,14}$")]
"""The name of a network device."""
DockerContext = Annotated[str, AfterValidator(_context)]
"""``ssh://[user@]host[:port]``, ``tcp://host:port`` or ``unix:///path``."""
Purpose = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
"""What ``serve.env`` calls it."""


class HostNode(Frozen):
    """One host. ``address`` and ``interface`` are those on which the nodes reach each other.

    ``interfaces`` names further ones by purpose: ``{interfaces.rdma}`` in ``serve.env`` becomes
    their list, with commas. ``context`` is the Docker host's address where commands are not typed
    on the node itself; ``weights`` and ``mounts`` are paths that differ here from elsewhere.
    """

    name: Name
    """In names of containers and in messages."""
    address: NodeAddress | None = None
    """On which the other nodes reach it."""
    interface: Interface | None = None
    """The network device with that address."""
    interfaces: dict[Purpose, Annotated[tuple[Interface, ...], Field(min_length=1)]] = {}
    """Further ones, by purpose."""
    context: DockerContext | None = None
    """Where its Docker engine answers; without it this host's own."""
    weights: AbsolutePath | None = None
    """The folder with the weights here."""
    mounts: dict[Name, AbsolutePath] = {}
    """Paths of the release's mounts here, by name."""


class Nodes(Frozen):
    """Hosts in the order of their ranks; the first one answers requests."""

    kind: Literal["nodes"]
    nodes: Annotated[tuple[HostNode, ...], Field(min_length=1)]
    """In order of rank."""

    @model_validator(mode="after")
    def _distinct(self) -> Nodes:
        for what in ("name", "address"):
            values = [getattr(n, what) for n in self.nodes if getattr(n, what) is not None]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two nodes have the {what} {', '.join(twice)}")
        return self
