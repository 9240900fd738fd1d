"""What is collected, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relforge.frozen import Frozen

Kind = Literal[
    "run", "result", "orphan", "blob", "source", "git", "repository", "file", "wheels", "base",
    "answers", "dataset", "scan", "sent", "logs", "tuning", "upload", "weights", "left-behind",
    "image", "container", "build-cache",
]  # fmt: skip
YOUNGER = "it is younger"
"""Why most runs stay."""
RANK: dict[Kind, int] = {"run": 0, "result": 1, "source": 2}
"""Of two things that were last used at one time, what mentions others goes first."""


class Gone(Frozen):
    """One thing that went, or would go. ``bytes`` are its files', whatever else links to them."""

    kind: Kind
    name: str
    bytes: int
    last_used_s: float | None
    why: str


class Kept(Frozen):
    """How much of a kind stays."""

    kind: Kind
    count: int
    bytes: int


class KeptRun(Frozen):
    """A run that stays, and why."""

    id: str
    why: str


class Untouched(Frozen):
    """What the collector leaves alone, whatever its age. ``bytes`` is None where nobody counted."""

    what: str
    bytes: int | None
    why: str


class GcOutput(Frozen):
    """What ``relforge runs gc --json`` prints; stable.

    ``freed_bytes`` counts a file only when its last name went; so it may be less than the sum.
    ``home_bytes`` is what stays. Of engine images and BuildKit's cache the engine says the sizes,
    and layers that images share are counted with each.
    """

    dry_run: bool
    home: str
    older_than_s: float
    keep_last: int
    max_bytes: int | None
    gone: tuple[Gone, ...]
    freed_bytes: int
    home_bytes: int
    kept: tuple[Kept, ...]
    kept_runs: tuple[KeptRun, ...]
    untouched: tuple[Untouched, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What was asked for. Ages are seconds; ``weights``: these, too."""

    older_than_s: float
    keep_last: int
    max_bytes: int | None = None
    weights: bool = False
    dry_run: bool = False


@dataclass
class Item:
    """Something that lies in the home: its ``paths`` go in that order.

    ``needed`` says why it has to stay, whatever its age. ``images`` are names in the engine that go
    with it, each with the ids that the image may have there.
    """

    kind: Kind
    name: str
    paths: tuple[Path, ...]
    last_used_s: float
    bytes: int
    needed: str | None = None
    images: tuple[EngineCopy, ...] = ()
    files: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)
    """By device and inode: size, names seen here, names in all."""


class EngineCopy(Frozen):
    """An image in the engine that a thing of the home stands for. ``ids`` are the digests that the
    engine may know it by; None: ``label`` says whether it is the one."""

    name: str
    ids: tuple[str, ...] = ()
    label: tuple[str, str] | None = None
