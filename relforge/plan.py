"""The plan: what would run for a release, a content key per stage, the reason; pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, cast

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Miss, Store
from relforge.explaining import Explanation, changes, with_stages
from relforge.frozen import Frozen
from relforge.manifest.fileversion import known_sha256
from relforge.stage import Resources, Skip, Stage, StageInputs, StageResult
from relforge.subject import Subject, subject

__all__ = ["PlanOutput", "Planning", "ReleasePlan", "Subject", "make_plan", "subject"]


@dataclass(frozen=True)
class Planning:
    """What a stage may read when it plans: the subject, and the keys and inputs before it."""

    subject: Subject
    keys: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, StageInputs] = field(default_factory=dict)
    skips: Mapping[str, Skip] = field(default_factory=dict)
    work: Mapping[str, Resources] = field(default_factory=dict)
    """For a stage that only looks at this host: what the stages that will run need, by name."""
    secrets: frozenset[str] = frozenset()
    """Likewise the secrets they need."""

    def key(self, stage: str) -> str:
        """The key of an earlier stage that is not skipped."""
        return self.keys[stage]

    def file_sha256(self, relative: str) -> str:
        """The hash of a project file."""
        return known_sha256(self.subject.project.path(relative))


class PlannedStage(Frozen):
    """One line of a plan."""

    name: str
    key: str | None
    status: Literal["run", "reuse", "skip"]
    because: str
    explanation: Explanation | None = None
    """With ``--explain``, and not for what is skipped."""


class NotPlanned(Frozen):
    """A release whose manifest, lock or patch set could not be used."""

    release: str
    error: str
    where: str | None
    exit_code: int

    @classmethod
    def of(cls, release: str, error: RelforgeError) -> NotPlanned:
        what = ": ".join(part for part in (error.what, error.why) if part)
        return cls(release=release, error=what, where=error.where, exit_code=int(error.code))


class PlannedRelease(Frozen):
    """One release in the output of ``relforge plan --json``."""

    name: str
    stages: tuple[PlannedStage, ...]
    unresolved: tuple[str, ...] = ()
    """What the lock leaves open: nothing is built before it is known."""


class PlanOutput(Frozen):
    """What ``relforge plan --json`` prints; stable."""

    releases: tuple[PlannedRelease, ...]
    not_planned: tuple[NotPlanned, ...] = ()


@dataclass(frozen=True)
class ReleasePlan:
    """The plan of one release, with the inputs that its keys were made of."""

    subject: Subject
    stages: tuple[PlannedStage, ...]
    inputs: Mapping[str, StageInputs]
    reused: Mapping[str, StageResult]
    skips: Mapping[str, Skip]

    @property
    def name(self) -> str:
        return self.subject.release.name

    @property
    def output(self) -> PlannedRelease:
        return PlannedRelease(
            name=self.name, stages=self.stages, unresolved=self.subject.lock.unresolved
        )


class PlanLater:
    """Stands for a plan that is made where somebody asks for more of it than the name."""

    def __init__(self, name: str, make: Callable[[], ReleasePlan]) -> None:
        self.name = name
        self._make = make
        self._made: ReleasePlan | None = None

    def __getattr__(self, attribute: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, attribute)


def plan_later(name: str, make: Callable[[], ReleasePlan]) -> ReleasePlan:
    """The plan of a release, which ``make`` makes at its first use; that raises what it raises."""
    return cast("ReleasePlan", PlanLater(name, make))


def make_plan(
    subject: Subject,
    stages: Sequence[Stage[Any, Any]],
    store: Store,
    *,
    until: str | None = None,
    since: str | None = None,
    explain: bool = False,
) -> ReleasePlan:
    """Computes keys and statuses in order; runs nothing and writes nothing.

    From the stage ``since`` on everything is done anew, whatever the store has. ``explain`` adds
    to each stage what it would do and every difference in its inputs.
    """
    last = _position(stages, until)
    asked_for = frozenset(stage.name for stage in stages[: last + 1])
    keys: dict[str, str] = {}
    inputs: dict[str, StageInputs] = {}
    skips: dict[str, Skip] = {}

    def add(stage: Stage[Any, Any], planning: Planning) -> None:
        planned = stage.plan(planning)
        if isinstance(planned, Skip):
            skips[stage.name] = planned
        else:
            inputs[stage.name] = planned
            keys[stage.name] = stage.key(planned)

    so_far = Planning(subject, keys, inputs, skips)
    for stage in stages:
        if stage.name not in asked_for:
            skips[stage.name] = Skip(kind="not-asked-for", reason=f"stops after {until}")
        elif not stage.check_only:
            add(stage, so_far)
    before = store.remembered(subject.release.name)
    anew = from_stage(stages, since)
    if since is not None and since not in asked_for:
        raise RelforgeError(
            f"{since} comes after {until}", code=ExitCode.USAGE, hint="name an earlier stage"
        )
    reused, because = _decide(subject, stages, store, keys, inputs, before, anew)
    at_work = [(stage, inputs[stage.name]) for stage in stages if stage.name in because]
    planning = Planning(
        subject,
        keys,
        inputs,
        skips,
        work={stage.name: stage.resources(given) for stage, given in at_work},
        secrets=frozenset(s for stage, given in at_work for s in stage.secrets(given, subject)),
    )
    for stage in stages:
        if stage.name in asked_for and stage.check_only:
            add(stage, planning)
    lines = tuple(
        _line(stage, keys.get(stage.name), skips.get(stage.name), because) for stage in stages
    )
    if explain:
        lines = tuple(
            line.model_copy(
                update={"explanation": _explained(stage, line, planning, store, before)}
            )
            for stage, line in zip(stages, lines, strict=True)
        )
    return ReleasePlan(subject, lines, inputs, reused, skips)


def _decide(
    subject: Subject,
    stages: Sequence[Stage[Any, Any]],
    store: Store,
    keys: Mapping[str, str],
    inputs: Mapping[str, StageInputs],
    before: Mapping[str, str],
    anew: frozenset[str],
) -> tuple[dict[str, StageResult], dict[str, str]]:
    """The results that serve again, and why each other planned stage has to run."""
    reused: dict[str, StageResult] = {}
    because: dict[str, str] = {}
    for stage in stages:
        if stage.name not in keys:
            continue
        if not stage.kept:
            because[stage.name] = "done anew each time"
            continue
        if stage.name in anew:
            because[stage.name] = "asked for anew"
            continue
        found = store.lookup(stage.name, keys[stage.name])
        if isinstance(found, Miss):
            because[stage.name] = _reason(stage, store, keys, inputs, before, found)
            continue
        result = stage.result_type.model_validate(found.result)
        if (unusable := stage.unusable(result, subject)) is not None:
            because[stage.name] = unusable
        else:
            reused[stage.name] = result
    return reused, because


def _line(
    stage: Stage[Any, Any], key: str | None, skip: Skip | None, because: Mapping[str, str]
) -> PlannedStage:
    if skip is not None:
        reason = f"{skip.kind}: {skip.reason}"
        return PlannedStage(name=stage.name, key=None, status="skip", because=reason)
    if stage.check_only:
        # A look at this host is only worth taking when some work follows.
        if because:
            reason = "checks this host before work"
            return PlannedStage(name=stage.name, key=key, status="run", because=reason)
        reason = "nothing is left to do"
        return PlannedStage(name=stage.name, key=key, status="reuse", because=reason)
    if stage.name in because:
        return PlannedStage(name=stage.name, key=key, status="run", because=because[stage.name])
    return PlannedStage(name=stage.name, key=key, status="reuse", because="inputs unchanged")


def _position(stages: Sequence[Stage[Any, Any]], until: str | None) -> int:
    if until is None:
        return len(stages)
    names = [stage.name for stage in stages]
    if until not in names:
        close = get_close_matches(until, names, n=1)
        raise RelforgeError(
            f"unknown stage {until!r}",
            code=ExitCode.USAGE,
            why=f"stages: {', '.join(names)}",
            hint=f"did you mean {close[0]!r}?" if close else "name one of them",
        )
    return names.index(until)


def require_stages(
    stages: Sequence[Stage[Any, Any]], *, until: str | None, since: str | None
) -> None:
    """Raises RelforgeError (USAGE) for stages that are not there, or that leave nothing to do."""
    last = _position(stages, until)
    if since is not None and _position(stages, since) > last:
        raise RelforgeError(
            f"--from {since} comes after --until {until}",
            code=ExitCode.USAGE,
            why=f"the order is: {', '.join(stage.name for stage in stages)}",
            hint="name a later stage for --until, or leave it out",
        )


def from_stage(stages: Sequence[Stage[Any, Any]], since: str | None) -> frozenset[str]:
    """The names of the stages from one on; none without one. Raises RelforgeError (USAGE)."""
    if since is None:
        return frozenset()
    return frozenset(stage.name for stage in stages[_position(stages, since) :])


def _reason(
    stage: Stage[Any, Any],
    store: Store,
    keys: Mapping[str, str],
    inputs: Mapping[str, StageInputs],
    before: Mapping[str, str],
    miss: Miss,
) -> str:
    old_key = before.get(stage.name)
    if old_key is None or old_key == keys[stage.name]:
        return miss.because
    old = store.inputs_of(stage.name, old_key)
    if old is None:
        return miss.because
    found = [change.phrase for change in changes(old, inputs[stage.name].model_dump(mode="json"))]
    if not found:
        return "relforge does this stage in another way than before"
    return "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")


def _explained(
    stage: Stage[Any, Any],
    line: PlannedStage,
    planning: Planning,
    store: Store,
    before: Mapping[str, str],
) -> Explanation | None:
    if line.status == "skip":
        return None
    given = planning.inputs[stage.name]
    runs = line.status == "run"
    old_key = before.get(stage.name) if runs and not stage.check_only else None
    old = store.inputs_of(stage.name, old_key) if old_key is not None else None
    return Explanation(
        does=stage.title,
        reads=tuple(name for name in stage.needs if name in planning.keys),
        needs=stage.resources(given),
        secrets=stage.secrets(given, planning.subject),
        compared_with=old_key if old is not None else None,
        changes=()
        if old is None
        else with_stages(changes(old, given.model_dump(mode="json")), before, planning.keys),
    )
