"""What differs between two runs: releases, their stages, and the inputs behind other keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from relforge.events import ReleaseState, StageStatus, Verdict
from relforge.evidence.reading_runs import as_told
from relforge.evidence.run_folder import result_path
from relforge.evidence.runs import ReleaseRun, Run, StageEntry
from relforge.evidence.store import Store
from relforge.explaining import Change, changes, with_stages
from relforge.frozen import Frozen

_DIGEST_OF = "build"


class StageSide(Frozen):
    """What one run says of a stage. ``seconds`` is wall time in that run."""

    status: StageStatus
    verdict: Verdict | None
    key: str | None
    seconds: float
    detail: str


class StageDiff(Frozen):
    """A stage of one release in both runs; None: that run did not come to it.

    ``changes`` are the differences of the inputs behind two keys. ``unknown`` says why there are
    none: nobody kept them.
    """

    stage: str
    before: StageSide | None
    after: StageSide | None
    changes: tuple[Change, ...] = ()
    unknown: str | None = None

    @property
    def differs(self) -> bool:
        """Whether anything but time and the way the result was had is another."""
        before, after = self.before, self.after
        if before is None or after is None:
            return before is not after
        return (before.key, before.verdict, before.status == "failed") != (
            after.key,
            after.verdict,
            after.status == "failed",
        )


class ReleaseDiff(Frozen):
    """One release that both runs had. Digests are those of its image."""

    release: str
    states: tuple[ReleaseState, ReleaseState]
    seconds: tuple[float, float]
    digests: tuple[str | None, str | None]
    stages: tuple[StageDiff, ...]

    @property
    def differs(self) -> bool:
        return (
            self.states[0] != self.states[1]
            or self.digests[0] != self.digests[1]
            or any(one.differs for one in self.stages)
        )


class RunsDiff(Frozen):
    """What ``relforge runs diff --json`` prints; stable. ``differ`` is whether anything but times
    is another; ``only_before`` and ``only_after`` are releases that one run alone had."""

    before: str
    after: str
    differ: bool
    states: tuple[ReleaseState, ReleaseState]
    seconds: tuple[float | None, float | None]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    releases: tuple[ReleaseDiff, ...]


def compare(before: Run, after: Run, home: Path) -> RunsDiff:
    """What differs; inputs are read from the store of *home*, where it still has them."""
    sides = (_whole(before, home), _whole(after, home))
    names = [[one.release for one in run.releases] for run in sides]
    common = [name for name in names[0] if name in names[1]]
    store = Store(home)
    releases = tuple(
        _release(sides[0].release(name), sides[1].release(name), (before, after), home, store)
        for name in common
    )
    only = (
        tuple(name for name in names[0] if name not in common),
        tuple(name for name in names[1] if name not in common),
    )
    return RunsDiff(
        before=before.id,
        after=after.id,
        differ=bool(only[0] or only[1]) or any(one.differs for one in releases),
        states=(before.state, after.state),
        seconds=(_seconds(before), _seconds(after)),
        only_before=only[0],
        only_after=only[1],
        releases=releases,
    )


def _whole(run: Run, home: Path) -> Run:
    return as_told(run, home / "runs" / run.id)[0] if run.state == "running" else run


def _seconds(run: Run) -> float | None:
    return None if run.ended_s is None else round(run.ended_s - run.started_s, 3)


def _release(
    before: ReleaseRun, after: ReleaseRun, runs: tuple[Run, Run], home: Path, store: Store
) -> ReleaseDiff:
    entries = tuple({one.name: one for one in side.stages} for side in (before, after))
    keys = tuple(
        {
            **runs[number].asked.keys.get(before.release, {}),
            **{name: one.key for name, one in entries[number].items() if one.key},
        }
        for number in (0, 1)
    )
    names = dict.fromkeys((*entries[0], *entries[1]))
    return ReleaseDiff(
        release=before.release,
        states=(before.state, after.state),
        seconds=(before.seconds, after.seconds),
        digests=(
            _digest(home / "runs" / runs[0].id, before.release),
            _digest(home / "runs" / runs[1].id, after.release),
        ),
        stages=tuple(
            _stage(name, entries[0].get(name), entries[1].get(name), (keys[0], keys[1]), store)
            for name in names
        ),
    )


def _stage(
    name: str,
    before: StageEntry | None,
    after: StageEntry | None,
    keys: tuple[Mapping[str, str], Mapping[str, str]],
    store: Store,
) -> StageDiff:
    found: tuple[Change, ...] = ()
    unknown = None
    old, new = (before and before.key), (after and after.key)
    if old and new and old != new:
        inputs = (store.inputs_of(name, old), store.inputs_of(name, new))
        if inputs[0] is None or inputs[1] is None:
            which = " and ".join(
                k[:12] for k, i in zip((old, new), inputs, strict=True) if i is None
            )
            unknown = f"the store has no result of {which}, so its inputs are not known"
        else:
            found = with_stages(changes(*inputs), *keys)
            if not found:
                unknown = "the inputs are the same: relforge does this stage in another way"
    return StageDiff(
        stage=name, before=_side(before), after=_side(after), changes=found, unknown=unknown
    )


def _side(entry: StageEntry | None) -> StageSide | None:
    if entry is None:
        return None
    return StageSide(
        status=entry.status,
        verdict=entry.verdict,
        key=entry.key,
        seconds=entry.seconds,
        detail=entry.detail,
    )


def _digest(folder: Path, release: str) -> str | None:
    """The digest of the release's image, as the run kept it."""
    try:
        found = json.loads(result_path(folder, release, _DIGEST_OF).read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("image_digest") if isinstance(found, dict) else None
