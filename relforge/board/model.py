"""What the page is given: an index of all releases, and the details of each, as JSON.

Times are seconds since 1970, UTC; percentages and points as evaluation has them; sizes in bytes.
"""

from __future__ import annotations

from typing import Any, Literal

from relforge.card.model import Said
from relforge.frozen import Frozen

State = Literal["released", "stale", "failing", "not-run"]
"""``released``: recorded, its gates passed, and made of what the manifests plan now. ``stale``:
recorded, and the manifests plan something else by now. ``failing``: the newest run that came to an
end of it failed, or a gate of its record did not pass. ``not-run``: there is no record."""
STATES: tuple[State, ...] = ("released", "stale", "failing", "not-run")


class Live(Frozen):
    """A run that is at work on a release. ``stage`` is None between two stages."""

    run: str
    stage: str | None
    since_s: float


class Entry(Frozen):
    """A release in the index. ``file`` has its details."""

    release: str
    device: str
    model: str
    variant: str | None
    engine: str | None
    title: str
    state: State
    why: tuple[Said, ...]
    file: str
    next: str | None = None
    """The command that goes on from there."""
    created_s: float | None = None
    digest: str | None = None
    run_s: float | None = None
    """When its newest run began."""
    runs: int = 0
    live: Live | None = None


class Titled(Frozen):
    """A device or a model."""

    name: str
    title: str
    vendor: str | None = None


class Index(Frozen):
    """What the page knows before anything is opened."""

    relforge: str
    as_of_s: float | None
    """The newest time that a record or a run names."""
    stages: tuple[str, ...]
    releases: tuple[Entry, ...]
    devices: tuple[Titled, ...]
    models: tuple[Titled, ...]
    problems: tuple[Said, ...] = ()
    """What could not be read."""


class StageRow(Frozen):
    """A stage of a run. ``seconds`` is wall time in that run."""

    name: str
    status: str
    seconds: float
    verdict: str | None = None
    detail: str = ""
    shared_with: str | None = None


class Attempt(Frozen):
    """One run as far as one release of it is concerned."""

    run: str
    command: str
    started_s: float
    ended_s: float | None
    seconds: float
    state: str
    exit_code: int | None
    error: str | None
    next: str | None
    digest: str | None
    verdicts: dict[str, str]
    stages: tuple[StageRow, ...]
    at: str | None = None
    """The stage that it is at, or was at when it was killed."""


class RecordedStage(Frozen):
    """A stage in a record: ``seconds`` is what it took when it really ran."""

    name: str
    status: str
    seconds: float | None
    verdict: str | None
    reason: str


class Link(Frozen):
    """A file that lies beside the board; ``href`` is relative to the page."""

    name: str
    href: str
    sha256: str | None = None


class Named(Frozen):
    """A digest or another value under its name."""

    name: str
    value: str


class SourceRow(Frozen):
    """A source: pinned as, by which hash or commit, and the tree that it was built from."""

    name: str
    identity: str
    pin: str | None
    tree: str | None
    built_tree: str | None


class PatchSetRow(Frozen):
    """A patch set with its patches by name and SHA-256."""

    name: str
    source: str
    result_tree: str | None
    patches: tuple[tuple[str, str], ...]


class ChangeRow(Frozen):
    """A value that was another in the release before; None: there was, or is, none."""

    group: str
    name: str
    before: str | None
    after: str | None


class Changes(Frozen):
    """What changed since the release before."""

    created: str | None
    run: str | None
    digest: str
    rows: tuple[ChangeRow, ...]


class Recorded(Frozen):
    """The release record. ``tasks`` and ``levels`` are as the record has them."""

    created: str | None
    run: str | None
    relforge: str | None
    project: str | None
    stages: tuple[RecordedStage, ...]
    skipped: dict[str, str]
    digests: tuple[Named, ...]
    facts: tuple[Named, ...]
    sources: tuple[SourceRow, ...]
    patches: tuple[PatchSetRow, ...]
    tasks: tuple[dict[str, Any], ...]
    bench: dict[str, Any] | None
    charts: dict[str, str]
    """By what they show: their addresses, relative to the page."""
    verify: str
    cards: tuple[Link, ...]
    evidence: tuple[Link, ...]
    changes: Changes | None


class Details(Frozen):
    """Everything about one release."""

    release: str
    record: Recorded | None
    stale: tuple[Said, ...]
    """Every difference between record and manifests."""
    history: tuple[Attempt, ...]
    """Its runs, newest first."""
    older: tuple[Named, ...] = ()
    """Earlier records: when, and the image's digest."""
