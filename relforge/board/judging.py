"""The state of a release: of its record, its runs, and what its manifests plan."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relforge.board.model import Attempt, Live, State
from relforge.card.model import Said
from relforge.manifest.policy import STAGE_OF, Policy
from relforge.pipeline import STAGES

_REQUIRED = Policy().stages
"""As the built-in policy has them: what does not pass them reaches nobody."""
_GATES = tuple(dict.fromkeys((*_REQUIRED, *STAGE_OF.values())))
_NO_SUCH = Said(text="the project has no such release any more")
_ORDER = {stage.name: place for place, stage in enumerate(STAGES)}


@dataclass(frozen=True)
class RecordFacts:
    """What a record says that decides its release's state. ``created_s`` None: it does not say."""

    verdicts: Mapping[str, str]
    skipped: Mapping[str, str]
    created_s: float | None


@dataclass(frozen=True)
class PlanFacts:
    """What the manifests say now. ``error``: why nothing can be planned. ``known``: whether the
    project has the release at all. ``unresolved``: what its lock leaves open."""

    known: bool = True
    error: str | None = None
    renders: bool = True
    unresolved: tuple[str, ...] = ()
    stale: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Judged:
    """``next`` is the command that goes on from there, where there is something to do."""

    state: State
    why: tuple[Said, ...] = ()
    next: str | None = None


def judge(
    release: str, record: RecordFacts | None, plan: PlanFacts, attempts: Sequence[Attempt]
) -> Judged:
    """The state of a release. ``attempts`` are its runs, newest first."""
    again = _next(release, plan)
    failed = _failure(attempts, record.created_s if record else None)
    if failed is not None:
        return Judged("failing", _failed(failed), failed.next or again)
    if record is None:
        return Judged("not-run", _not_run(plan, attempts), again)
    gates = tuple(_gates(record))
    if gates:
        never = all(said.values.get("verdict") == "not-run" for said in gates)
        return Judged("not-run" if never else "failing", gates, again)
    if not plan.known:
        return Judged("stale", (_NO_SUCH,))
    if plan.error is not None:
        why = Said(text="cannot be planned: %(why)s", values={"why": plan.error})
        return Judged("stale", (why,), again)
    return Judged("stale", plan.stale, again) if plan.stale else Judged("released")


def _next(release: str, plan: PlanFacts) -> str | None:
    if not plan.known:
        return None
    verb = "plan" if plan.error is not None else "lock" if plan.unresolved else "release"
    return shlex.join(["relforge", verb, "--release", release])


def _failure(attempts: Sequence[Attempt], recorded_s: float | None) -> Attempt | None:
    """The newest run that failed, where no later run came further than that.

    Runs that were interrupted or killed, or are still at work, decide nothing by their end; the
    stages that they passed count. A record that is newer than the failure settles it, too.
    """
    passed: set[str] = set()
    for attempt in attempts:
        if attempt.state == "failed":
            ended = attempt.ended_s or attempt.started_s
            later = recorded_s is not None and recorded_s >= int(ended)
            stage = _failing_stage(attempt)
            # What failed before any stage is over once a stage was passed.
            over = bool(passed) if stage is None else stage in passed
            return None if later or over else attempt
        passed |= {one.name for one in attempt.stages if one.status in ("ran", "reused")}
        passed |= {name for name, verdict in attempt.verdicts.items() if verdict == "pass"}
        if attempt.state == "done" and not attempt.stages:
            return None  # an older one, of which the stages are not kept
    return None


def _failing_stage(attempt: Attempt) -> str | None:
    for stage in attempt.stages:
        if stage.status == "failed":
            return stage.name
    return attempt.at


def _failed(attempt: Attempt) -> tuple[Said, ...]:
    stage = _failing_stage(attempt)
    found = [
        Said(text="failed at %(stage)s", values={"stage": stage})
        if stage
        else Said(text="failed before its first stage")
    ]
    if attempt.error:
        found.append(Said.plain(attempt.error))
    return tuple(found)


def _gates(record: RecordFacts) -> list[Said]:
    """The gates of a record that did not pass. One that its manifest skips is none of its gates."""
    found = []
    for gate in _GATES:
        verdict = record.verdicts.get(gate)
        if verdict is None and gate in record.skipped:
            continue
        verdict = verdict or "not-run"
        if verdict == "pass" or (verdict == "not-run" and gate not in _REQUIRED):
            continue
        values: dict[str, str | int | float] = {"stage": gate, "verdict": verdict}
        found.append(Said(text="the gate %(stage)s of the record: %(verdict)s", values=values))
    return found


def _not_run(plan: PlanFacts, attempts: Sequence[Attempt]) -> tuple[Said, ...]:
    if not plan.known:
        return (_NO_SUCH,)
    if plan.error is not None:
        return (Said(text="cannot be planned: %(why)s", values={"why": plan.error}),)
    done = {
        one.name
        for attempt in attempts
        for one in attempt.stages
        if one.status in ("ran", "reused")
    }
    found: list[Said] = []
    if "smoke" in done:
        furthest = max(done, key=lambda name: _ORDER.get(name, -1))
        found.append(
            Said(text="no record yet; its runs came to %(stage)s", values={"stage": furthest})
        )
    elif "build" in done:
        found.append(Said(text="built, never executed on the device"))
    elif plan.renders:
        found.append(Said(text="rendered, never executed on the device"))
    else:
        found.append(Said(text="planned, never executed on the device"))
    if plan.unresolved:
        values: dict[str, str | int | float] = {"what": "; ".join(plan.unresolved)}
        found.append(Said(text="the lock leaves open: %(what)s", values=values))
    if attempts and attempts[0].state in ("killed", "interrupted"):
        found.append(Said(text="its last run was %(state)s", values={"state": attempts[0].state}))
    return tuple(found)


def live_of(attempts: Sequence[Attempt]) -> Live | None:
    """The run that is at work on it now."""
    for attempt in attempts:
        if attempt.state == "running":
            return Live(run=attempt.run, stage=attempt.at, since_s=attempt.started_s)
    return None
