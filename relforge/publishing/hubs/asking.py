"""What the worker and its parent tell each other about a hub; the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FaultKind = Literal[
    "missing-extra",
    "token",
    "forbidden",
    "missing",
    "conflict",
    "rejected",
    "busy",
    "unreachable",
    "slow",
    "disk",
    "broken",
]
"""401; 403; 404; 409 and 412; any other 4xx; 429 and 5xx; no whole answer; none in time."""

PUBLICATION = ".relforge/publication.json"
"""What lies in a repository for relforge: which image is there, and which files are its own."""


@dataclass(frozen=True)
class Ask:
    """One thing that is asked of a hub. ``scratch`` is a folder for what the client downloads.

    ``look`` has the arguments of a ``look`` at ``main_repository`` that follows the action.
    """

    hub: str
    action: str
    endpoint: str
    token: str
    repository: str
    scratch: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    look: Mapping[str, Any] | None = None
    main_repository: str = ""


@dataclass
class Fault(Exception):
    """Why the worker has no answer. ``after_s`` is how long the hub asked to be left alone."""

    kind: FaultKind
    text: str
    status: int | None = None
    after_s: float | None = None

    def __str__(self) -> str:
        return self.text


def kind_of_status(status: int) -> FaultKind:
    """The kind of an HTTP status that is an error."""
    named: dict[int, FaultKind] = {
        401: "token",
        403: "forbidden",
        404: "missing",
        409: "conflict",
        412: "conflict",
        429: "busy",
    }
    return named.get(status, "busy" if status >= 500 else "rejected")
