"""``patch_history.yaml`` and ``hetero.txt``: whether what they name is there, and fits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from relforge.errors import RelforgeError
from relforge.manifest.project import normalised
from relforge.patching.flagscale import names
from relforge.patching.flagscale.diff_yaml import DiffYaml
from relforge.patching.flagscale.history import read_history
from relforge.patching.flagscale.legacy import read_hetero
from relforge.patching.lint.entries import check_base, spellings, unknown_tasks
from relforge.patching.lint.model import Finding, finding
from relforge.patching.lint.objects import Look, Unit

_FULL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CORRECT = f"correct {names.HISTORY}"


@dataclass(frozen=True)
class Request:
    """One commit that the history file names; the last one of its list is what a user gets."""

    device: str
    task: str
    key: str
    commit: str
    line: int | None
    last: bool

    @property
    def where(self) -> str:
        return names.HISTORY if self.line is None else f"{names.HISTORY}:{self.line}"

    @property
    def asked(self) -> str:
        return f"{self.device} {self.task} {self.key}"


@dataclass(frozen=True)
class Answer:
    """What a request finds: the commit in full, and each backend's entry."""

    request: Request
    commit: str
    units: tuple[Unit, ...]

    def bases(self, look: Look) -> dict[str, str]:
        """Each backend's base, where it is at hand."""
        return {u.name: base for u in self.units if (base := look.base_of(u)) is not None}


def requests(look: Look) -> tuple[list[Request], list[Finding]]:
    """What the history file of the commit looked at names; a finding when it cannot be read."""
    data = look.repository.read(look.commit, names.HISTORY)
    if data is None:
        return [], []
    try:
        history = read_history(data, names.HISTORY)
    except RelforgeError as error:
        message = f"{error.what}: {error.why}"
        return [], [finding("history-invalid", "error", names.HISTORY, message, _CORRECT)]
    lines = _lines(data)
    return [
        Request(
            device,
            task,
            key,
            commit,
            lines.get((device, task, key, number)),
            number == len(commits) - 1,
        )
        for device, by_task in history.items()
        for task, by_key in by_task.items()
        for key, commits in by_key.items()
        for number, commit in enumerate(commits)
    ], []


def answers(look: Look, asked: list[Request]) -> tuple[list[Answer], list[Finding]]:
    """What the requests find, and what is wrong with the names in them."""
    found: list[Answer] = []
    wrong: list[Finding] = []
    told: set[tuple[str, ...]] = set()
    for request in asked:
        wrong += _names(request, told)
        commit = look.commit_id(request.commit)
        if commit is None:
            wrong.append(
                finding(
                    "history-commit-missing",
                    "error",
                    request.where,
                    f"{request.asked}: the commit {request.commit} is not in this clone: the "
                    "object is missing",
                    f"git fetch origin {request.commit}; when no server has it, remove the line",
                )
            )
            continue
        wrong += _reachable(look, request, commit)
        units = []
        for backend in request.key.split("+"):
            unit = look.hardware(commit).unit(request.device, backend)
            if unit is not None:
                units.append(unit)
            elif (key := (request.device, backend, commit)) not in told:
                told.add(key)
                wrong.append(
                    finding(
                        "history-folder-missing",
                        "error",
                        request.where,
                        f"{request.asked}: {commit[:12]} has no folder "
                        f"hardware/{request.device}/{backend}",
                        "name the commit that holds the entry, or remove the line",
                    )
                )
        found.append(Answer(request, commit, tuple(units)))
    return found, wrong


def check_history(look: Look, asked: list[Request], found: list[Answer]) -> Iterator[Finding]:
    """Whether the entries that the history file leads to are what it says."""
    now = look.hardware(look.commit)
    yield from spellings(
        {u.device for u in now.units if not u.legacy}, {request.device for request in asked}
    )
    told: set[tuple[str, ...]] = set()
    for answer in found:
        for unit in answer.units:
            yield from _unit(look, answer, unit, told)
        yield from _versions(look, answer, told)
        bases = answer.bases(look)
        if len(set(bases.values())) > 1:
            listed = ", ".join(f"{backend} {base[:12]}" for backend, base in bases.items())
            yield finding(
                "bases-differ",
                "warning" if answer.request.last else "note",
                answer.request.where,
                f"{answer.request.asked} in {answer.commit[:12]}: its backends are made for "
                f"different bases: {listed}; the newest is used for all",
                "publish all backends of a request for one base",
            )
    keys = {(r.device, r.task, r.key) for r in asked}
    for device, task, key in sorted(keys):
        for backend in key.split("+") if "+" in key else ():
            if (device, task, backend) not in keys:
                yield finding(
                    "history-single-missing",
                    "note",
                    names.HISTORY,
                    f"{device} {task} {key} is named, {backend} alone is not",
                    f"relforge patch history --backend {backend} --device-type {device} "
                    f"--task {task} --commit COMMIT",
                )
    named = {(u.device, u.name, u.tree) for answer in found for u in answer.units}
    for unit in now.units:
        if not unit.legacy and (unit.device, unit.name, unit.tree) not in named:
            yield _not_named(look, unit)


def check_hetero(look: Look) -> Iterator[Finding]:
    """Whether devices that are listed together have entries, and whether any list is there."""
    legacy = [unit for unit in look.hardware(look.commit).units if unit.legacy]
    data = look.repository.read(look.commit, names.HETERO)
    if data is None:
        shared: dict[str, list[str]] = defaultdict(list)
        for unit in legacy:
            shared[unit.name].append(unit.device)
        together = [f"{b}: {' '.join(d)}" for b, d in shared.items() if len(d) > 1]
        if together:
            yield finding(
                "hetero-missing",
                "note",
                names.HETERO,
                "there is no such file: every request for several devices fails, also where they "
                f"share a base ({'; '.join(together)})",
                "publish devices that work together with relforge patch --device-type A B",
            )
        return
    there = {(unit.name, normalised(unit.device)) for unit in legacy}
    for base, devices in read_hetero(data):
        for device in devices:
            if (base, normalised(device)) not in there:
                yield finding(
                    "hetero-entry-missing",
                    "warning",
                    names.HETERO,
                    f"{base} lists {device}, but there is no hardware/{device}/{base}",
                    "publish the entry, or remove the line",
                )


def _names(request: Request, told: set[tuple[str, ...]]) -> Iterator[Finding]:
    """Whether anybody can ask for it."""
    key = (request.device, request.task, request.key)
    if key in told:
        return
    told.add(key)
    if request.task not in names.TASKS:
        message = f"{request.asked}: nobody can ask for the task {request.task!r}"
        yield finding("history-key", "error", request.where, message, _CORRECT)
    try:
        known = names.backends(request.key.split("+"))
        wanted = names.history_key(known)
    except RelforgeError as error:
        message = f"{request.asked}: {error.what}"
        yield finding("history-key", "error", request.where, message, _CORRECT)
        return
    if wanted != request.key:
        message = f"{request.asked}: FlagScale's tools look for {wanted}"
        yield finding("history-key", "error", request.where, message, _CORRECT)


def _reachable(look: Look, request: Request, commit: str) -> Iterator[Finding]:
    if not _FULL.fullmatch(request.commit):
        yield finding(
            "history-short-commit",
            "warning",
            request.where,
            f"{request.asked}: {request.commit} is no full commit hash",
            f"write {commit}",
        )
    if not look.leads_to(commit, look.commit):
        branch = commit in look.on_branches
        yield finding(
            "history-commit-unreachable",
            "warning" if branch else "error",
            request.where,
            f"{request.asked}: {commit[:12]} is on {'another' if branch else 'no'} branch; "
            f"it is no ancestor of {look.commit[:12]}",
            "merge it, or name a commit of this branch",
        )


def _unit(look: Look, answer: Answer, unit: Unit, told: set[tuple[str, ...]]) -> Iterator[Finding]:
    request = answer.request
    if not unit.now and (key := (unit.commit, unit.folder)) not in told:
        told.add(key)
        yield from check_base(look, unit)
        described = look.description(unit)
        if isinstance(described, DiffYaml):
            yield from unknown_tasks(unit, described)
        else:
            why = (
                described.why if isinstance(described, RelforgeError) else f"no {unit.described_in}"
            )
            yield finding(
                "diff-yaml-invalid" if described else "diff-yaml-missing",
                "error" if request.last else "warning",
                unit.where(unit.described_in),
                f"the entry cannot be used: {why}",
                "name another commit in the history file",
            )
    described = look.description(unit)
    asked = (unit.commit, unit.folder, request.task)
    if isinstance(described, DiffYaml) and request.task not in described.task and asked not in told:
        told.add(asked)
        yield finding(
            "history-task",
            "error" if request.last else "warning",
            request.where,
            f"{request.asked} in {answer.commit[:12]}: {unit.name}/{unit.described_in} says it "
            f"is for {'+'.join(described.task) or 'no task'}",
            f"name the commit of an entry for {request.task}, or correct {unit.described_in}",
        )


def _versions(look: Look, answer: Answer, told: set[tuple[str, ...]]) -> Iterator[Finding]:
    """A request for FlagScale with a backend whose own entry was made without FlagScale."""
    keys = answer.request.key.split("+")
    for unit in answer.units if len(keys) > 1 and answer.request.last else ():
        described = look.description(unit)
        absent = [
            key
            for key in keys
            if isinstance(described, DiffYaml) and key not in described.backends_version
        ]
        if absent and (place := (unit.where(), "versions")) not in told:
            told.add(place)
            yield finding(
                "history-versions",
                "note",
                unit.where(unit.described_in),
                f"{answer.request.where} files it under {answer.request.key}, but "
                f"backends_version does not name {' and '.join(absent)}",
                "publish the backends of a request together",
            )


def _not_named(look: Look, unit: Unit) -> Finding:
    last = look.git.run(
        "log", "-1", "--format=%h", look.commit, "--", f":(top,literal){unit.folder}", check=False
    )
    return finding(
        "entry-not-in-history",
        "warning",
        unit.where(),
        f"no commit in the history file holds this entry as it is here (last changed in "
        f"{last.text or 'an unknown commit'}): users get it only with --commit",
        f"relforge patch history --backend {unit.name} --device-type {unit.device} --task TASK "
        f"--commit {last.text or 'COMMIT'}",
    )


def _lines(data: bytes) -> dict[tuple[str, str, str, int], int]:
    """The line, counted from 1, of each commit in the file."""
    found = {}
    root = yaml.compose(data.decode(), Loader=yaml.SafeLoader)
    for device, tasks in _pairs(root):
        for task, keys in _pairs(tasks):
            for key, commits in _pairs(keys):
                for number, commit in enumerate(_items(commits)):
                    found[device, task, key, number] = commit.start_mark.line + 1
    return found


def _pairs(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [(str(key.value), value) for key, value in node.value]


def _items(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []
