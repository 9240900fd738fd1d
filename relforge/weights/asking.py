"""What the worker and its parent tell each other; the standard library alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PARTIAL = ".incomplete"
"""What both clients append to a file's name while it is being fetched."""


@dataclass(frozen=True)
class Request:
    """What is asked. ``into`` is the folder that a fetched file goes to, under its own path.

    An unfinished file of an earlier fetch, ``<path>.incomplete``, is continued.
    """

    hub: str
    action: str
    endpoint: str
    token: str | None
    repository: str
    revision: str
    path: str = ""
    size_bytes: int = 0
    into: str = ""

    @property
    def target(self) -> Path:
        return Path(self.into, self.path)

    @property
    def partial(self) -> Path:
        return self.target.with_name(self.target.name + PARTIAL)


class HubFault(Exception):
    """A fault whose kind is known.

    Kinds: ``missing-extra``, ``no-repository``, ``no-revision``, ``no-file``, ``refused``,
    ``unreachable``, ``disk``, and ``broken`` for everything else.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, what caused that, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
