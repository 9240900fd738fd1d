"""What every publishing target can do, and what it says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from relforge.cancel import CancelToken
from relforge.frozen import Frozen
from relforge.publishing.published import Published

Step = Literal["candidate", "promote", "withdraw"]
"""To where a release waits; from there to where people look; away from there, with a reason."""


class Change(Frozen):
    """One thing that a step would do, or did, at a target. ``bytes`` are those to be sent."""

    action: Literal["add", "replace", "remove", "same"]
    kind: Literal["layer", "config", "manifest", "tag", "attachment", "file", "pull-request",
                  "commit", "release", "repository"]  # fmt: skip
    name: str
    bytes: int = 0
    before: str | None = None
    after: str | None = None


class TargetPlan(Frozen):
    """What a step would change at a target now."""

    target: str
    step: Step
    place: str
    """What people would call it: ``registry.example.org/team/model``, a URL, a path."""
    changes: tuple[Change, ...]

    @property
    def nothing(self) -> bool:
        """Whether all is there as it should be."""
        return all(change.action == "same" for change in self.changes)

    @property
    def bytes(self) -> int:
        """What would be sent."""
        return sum(change.bytes for change in self.changes if change.action != "same")


class Delivery(Frozen):
    """What a step did at a target. ``references`` are what a reader types or opens."""

    target: str
    step: Step
    place: str
    image_digest: str
    references: tuple[str, ...]
    changes: tuple[Change, ...]
    sent_bytes: int


@dataclass(frozen=True)
class Doing:
    """The channels of a target while it works. ``reason`` is that of a withdrawal."""

    line: Callable[[str], None] = field(default=lambda _line: None)
    cancel: CancelToken | None = None
    reason: str = ""


class Target(Protocol):
    """One place that releases go to.

    Every step is idempotent by digest: a second call finds everything there, sends nothing and
    changes nothing. A step that is killed anywhere leaves nothing that people would take for a
    whole release; the next call completes it.
    """

    @property
    def name(self) -> str:
        """The target's name in the site configuration."""

    def place(self, published: Published) -> str:
        """Where the release goes there, for people."""

    def plan(self, published: Published, step: Step) -> TargetPlan:
        """Asks the target; changes nothing. Raises RelforgeError (PUBLISH, ENVIRONMENT)."""

    def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        """Does what ``plan`` says. Raises RelforgeError (PUBLISH), Cancelled."""

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        """Takes back what ``apply`` did in this run, as far as others may not rely on it yet."""
