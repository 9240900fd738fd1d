"""The plan: what would run for a release, a content key per stage, the reason; pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Miss, Store
from relforge.files import sha256_file
from relforge.frozen import Frozen
from relforge.lock import Lock, load_lock
from relforge.manifest.device import Device
from relforge.manifest.model import Model, Reference
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.patching.locate import LocatedPatchSet, check_against_lock, known_of, locate
from relforge.publishing.registry import Repository
from relforge.stage import Resources, Skip, Stage, StageInputs, StageResult


@dataclass(frozen=True)
class Subject:
    """One release with everything its manifests name, loaded and cross-checked."""

    project: Project
    release: Release
    device: Device
    model: Model
    lock: Lock
    site: Site
    patch_sets: tuple[LocatedPatchSet, ...] = ()
    registry: str | None = None
    """``HOST/NAME`` of ``--registry``."""
    dist: Path | None = None
    """Where this run publishes; no part of any key."""

    @property
    def sealed(self) -> tuple[str, ...]:
        """Names of the patch sets that come from bundles."""
        return tuple(p.name for p in self.patch_sets if p.sealed)


def subject(
    project: Project,
    release: Release,
    site: Site,
    *,
    registry: str | None = None,
    dist: Path | None = None,
    allow_unsigned: bool = False,
) -> Subject:
    """Loads what a release names; ``allow_unsigned`` is the user's word for the bundles in it.

    Raises RelforgeError: USAGE for unknown names, a stale lock or a bad registry name, SOURCE for
    an untrusted bundle or an altered reference.
    """
    device = project.device(release.device).for_release(release.stack)
    model = project.model(release.model)
    lock = load_lock(project, release, device)
    located = tuple(
        locate(
            project,
            site,
            device,
            ref,
            known=known_of(lock.patches.get(ref.name)),
            allow_unsigned=allow_unsigned,
        )
        for ref in release.patch_refs
    )
    for patch_set in located:
        check_against_lock(patch_set, lock.patches.get(patch_set.name), release.name)
    if model.reference is not None:
        _check_reference(project, model, model.reference)
    if registry is not None:
        Repository.parse(registry)
    return Subject(project, release, device, model, lock, site, located, registry, dist)


def _check_reference(project: Project, model: Model, reference: Reference) -> None:
    """The baseline of the gates is pinned: an edited one must not pass unnoticed."""
    path = project.path(reference.path)
    found = sha256_file(path)
    if found != reference.sha256:
        raise RelforgeError(
            f"the reference of {model.name} is not the pinned file",
            code=ExitCode.SOURCE,
            where=str(path),
            why=f"the model manifest pins sha256 {reference.sha256}, found {found}",
            hint="restore the file; if it was measured again, pin its new hash in the model",
        )


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
        return sha256_file(self.subject.project.path(relative))


class PlannedStage(Frozen):
    """One line of a plan."""

    name: str
    key: str | None
    status: Literal["run", "reuse", "skip"]
    because: str


class PlannedRelease(Frozen):
    """One release in the output of ``relforge plan --json``."""

    name: str
    stages: tuple[PlannedStage, ...]


class PlanOutput(Frozen):
    """What ``relforge plan --json`` prints; stable."""

    releases: tuple[PlannedRelease, ...]


@dataclass(frozen=True)
class ReleasePlan:
    """The plan of one release, with the inputs that its keys were made of."""

    subject: Subject
    stages: tuple[PlannedStage, ...]
    inputs: Mapping[str, StageInputs]
    reused: Mapping[str, StageResult]

    @property
    def name(self) -> str:
        return self.subject.release.name

    @property
    def output(self) -> PlannedRelease:
        return PlannedRelease(name=self.name, stages=self.stages)


def make_plan(
    subject: Subject,
    stages: Sequence[Stage[Any, Any]],
    store: Store,
    *,
    until: str | None = None,
) -> ReleasePlan:
    """Computes keys and statuses in order; runs nothing and writes nothing."""
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

    for stage in stages:
        if stage.name not in asked_for:
            skips[stage.name] = Skip(kind="not-asked-for", reason=f"stops after {until}")
        elif not stage.check_only:
            add(stage, Planning(subject, dict(keys), dict(inputs), dict(skips)))
    reused, because = _decide(subject, stages, store, keys, inputs)
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
        if stage.check_only and stage.name in asked_for:
            add(stage, planning)
    lines = tuple(
        _line(stage, keys.get(stage.name), skips.get(stage.name), because) for stage in stages
    )
    return ReleasePlan(subject, lines, inputs, reused)


def _decide(
    subject: Subject,
    stages: Sequence[Stage[Any, Any]],
    store: Store,
    keys: Mapping[str, str],
    inputs: Mapping[str, StageInputs],
) -> tuple[dict[str, StageResult], dict[str, str]]:
    """The results that serve again, and why each other planned stage has to run."""
    before = store.remembered(subject.release.name)
    reused: dict[str, StageResult] = {}
    because: dict[str, str] = {}
    for stage in stages:
        if stage.name not in keys:
            continue
        found = store.lookup(stage.name, keys[stage.name])
        if isinstance(found, Miss):
            because[stage.name] = _explain(stage, store, keys, inputs, before, found)
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
        raise RelforgeError(
            f"unknown stage {until!r}",
            code=ExitCode.USAGE,
            why=f"stages: {', '.join(names)}",
        )
    return names.index(until)


def _explain(
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
    changes = differences(old, inputs[stage.name].model_dump(mode="json"))
    return "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two JSON values, one phrase per place."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for name in sorted({*old, *new}):
            where = f"{path}.{name}" if path else str(name)
            if name not in old:
                found.append(f"{where} is new")
            elif name not in new:
                found.append(f"{where} is gone")
            else:
                found.extend(differences(old[name], new[name], where))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            phrase
            for index, (left, right) in enumerate(zip(old, new, strict=True))
            for phrase in differences(left, right, f"{path}[{index}]")
        ]
    if old == new:
        return []
    return [f"{path or 'inputs'}: {_short(old)} → {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    if "\n" in text:
        return f"text of {len(text.splitlines())} lines"
    if len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text):
        return text[:8]
    return text if len(text) <= 40 else f"{text[:37]}..."
