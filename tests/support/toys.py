"""Toy stages and releases: what a run of many releases does, without an engine.

What a toy stage does is told by its inputs, so that the same stages run in another process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.files import held_lock
from relforge.manifest.limits import StageLimits
from relforge.plan import Planning, ReleasePlan, make_plan
from relforge.stage import (
    Job,
    Part,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
)


class ToyInputs(StageInputs):
    """``word`` makes the key; what is under ``does`` is done (see ``Toy.run``)."""

    word: str
    before: str = ""
    does: dict[str, Any] = {}


class ToyResult(StageResult):
    """``said`` is what it was made of: another order or another input gives another text."""

    said: str


@dataclass(frozen=True)
class Named:
    """As much of a release's manifest as running reads."""

    name: str
    limits: dict[str, StageLimits] = field(default_factory=dict)


class _Nowhere:
    roots: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ToyRelease:
    """``words`` are those of its stages by name; stages of one word are the same work.

    ``does`` says what a stage does besides, ``skips`` which it goes without.
    """

    name: str
    words: dict[str, str] = field(default_factory=dict)
    does: dict[str, dict[str, Any]] = field(default_factory=dict)
    skips: tuple[str, ...] = ()
    limits: dict[str, StageLimits] = field(default_factory=dict)
    dist: Path | None = None

    @property
    def release(self) -> Named:
        return Named(self.name, self.limits)

    @property
    def project(self) -> _Nowhere:
        return _Nowhere()


class Toy(Stage[ToyInputs, ToyResult]):
    """A stage with a name of its own.

    ``does``: ``sleep_s``; ``fails`` N times (with exit ``code``) and then not; ``verdict``;
    ``parts``: names of parts; ``raises``: it has a bug, and that is its text; ``says`` a line.
    What it did is one line in ``<home>/done.txt``.
    """

    name = "toy"
    title = "toy"
    result_type = ToyResult

    def __init__(
        self,
        name: str,
        *,
        needs: tuple[str, ...] = (),
        resources: Resources | None = None,
        alone: bool = False,
        check_only: bool = False,
    ) -> None:
        # A stage's facts are the class's; toys are many of one class.
        self.name = name  # type: ignore[misc]
        self.needs = needs  # type: ignore[misc]
        self.alone = alone  # type: ignore[misc]
        self.check_only = check_only  # type: ignore[misc]
        self._resources = resources or Resources(cpu_cores=0)

    def plan(self, planning: Planning) -> ToyInputs | Skip:
        toy: Any = planning.subject
        if self.name in toy.skips:
            return Skip(kind="not-needed", reason="the toy needs none")
        return ToyInputs(
            word=toy.words.get(self.name, toy.name),
            before=" ".join(planning.keys.get(name, "-") for name in self.needs),
            does=toy.does.get(self.name, {}),
        )

    def resources(self, inputs: ToyInputs) -> Resources:
        return self._resources

    def parts(self, inputs: ToyInputs) -> tuple[Part, ...]:
        needs = Resources(cpu_cores=0)
        return tuple(Part(key=one, name=one, needs=needs) for one in inputs.does.get("parts", ()))

    def run_part(self, part: Part, job: Job[ToyInputs], ctx: StageContext) -> None:
        ctx.cancel.sleep(job.inputs.does.get("part_s", 0))
        if part.key == job.inputs.does.get("bad_part"):
            raise RelforgeError(f"{part.name} is not there", code=ExitCode.SOURCE)
        if job.inputs.does.get("part_fails", 0) > _tries(job.env.home, part.key):
            raise RelforgeError(f"{part.name} did not come", code=ExitCode.SOURCE)
        note(job.env.home, f"part {part.key}")

    def run(self, job: Job[ToyInputs], ctx: StageContext) -> ToyResult:
        does = job.inputs.does
        note(job.env.home, f"begin {self.name} {job.env.release}")
        ctx.line(f"{self.name} works")
        ctx.cancel.sleep(does.get("sleep_s", 0))
        if "says" in does:
            ctx.line(does["says"])
        if "raises" in does:
            raise ZeroDivisionError(does["raises"])
        if does.get("fails", 0) > _tries(job.env.home, f"{self.name} {job.env.release}"):
            raise RelforgeError(
                f"{self.name} has no luck",
                code=ExitCode(does.get("code", 5)),
                why=does.get("why", "it is a toy"),
            )
        upstream = (job.upstream[name] for name in self.needs if name in job.upstream)
        before = "+".join(one.said for one in upstream if isinstance(one, ToyResult))
        note(job.env.home, f"end {self.name} {job.env.release}")
        return ToyResult(
            said=f"{self.name}:{job.inputs.word}({before})",
            verdict=does.get("verdict"),
            reason="because",
        )

    def outcome(self, result: ToyResult) -> str:
        return result.said


def note(home: Path, line: str) -> None:
    """One line in ``done.txt``; several processes may write."""
    with (home / "done.txt").open("a") as file:
        file.write(f"{line} {os.getpid()} {time.monotonic():.3f}\n")


def noted(home: Path, what: str = "end") -> list[str]:
    """``stage release`` of each line that begins so, in order."""
    try:
        rows = (home / "done.txt").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [" ".join(row.split()[1:-2]) for row in rows if row.startswith(f"{what} ")]


def _tries(home: Path, name: str) -> int:
    """How often it was tried before."""
    path = home / f"tries {name}"
    with held_lock(home / "tries.lock"):
        before = int(path.read_text()) if path.exists() else 0
        path.write_text(str(before + 1))
    return before


PIPELINE: tuple[Stage[Any, Any], ...] = (
    Toy("look", check_only=True),
    Toy("fetch"),
    Toy("make", needs=("fetch",)),
    Toy("test", needs=("make",)),
)


def plan_of(
    home: Path,
    toy: ToyRelease,
    stages: Sequence[Stage[Any, Any]] = PIPELINE,
    since: str | None = None,
) -> ReleasePlan:
    subject: Any = toy
    return make_plan(subject, stages, Store(home), since=since)
