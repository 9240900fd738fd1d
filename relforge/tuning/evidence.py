"""A tuning's evidence file, believed only when its own verdicts lead to what it says was found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.pinned import read_object
from relforge.evaluation.task import reasons
from relforge.frozen import Frozen
from relforge.tuning.asking import Asked, Found, Limits
from relforge.tuning.record import evaluation_of, result_of
from relforge.tuning.search import State, Tuning, tune


class _Limits(Frozen):
    evaluations: int | None
    seconds: float | None
    levels: int = Field(ge=1)


class _Evidence(Frozen):
    format: Literal["relforge.tuning/1"]
    subject: dict[str, Any]
    limits: _Limits
    suspects: tuple[str, ...]
    operators: tuple[str, ...] = Field(min_length=1)
    result: dict[str, Any]
    evaluations: tuple[dict[str, Any], ...]


class InteractionOutput(Frozen):
    """An operator that does harm only together with all of the others."""

    operator: str
    others: tuple[str, ...]


class TuneOutput(Frozen):
    """What ``relforge tune --json`` prints; stable.

    ``operators`` counts those that could be disabled. ``already_disabled`` are not among them: the
    manifest disables them. ``bound`` is 2 k log2(N) for k culprits of N operators.
    """

    subject: str
    state: State
    reason: str
    operators: int
    culprits: tuple[str, ...]
    already_disabled: tuple[str, ...]
    suspects: tuple[str, ...]
    given_back: tuple[str, ...]
    interactions: tuple[InteractionOutput, ...]
    confirmed: bool
    smallest: bool
    evaluations: int
    search_evaluations: int
    bound: float | None
    seconds: float
    set_in_manifest: dict[str, str]
    evidence: str


@dataclass(frozen=True)
class LoadedTuning:
    """What an evidence file says, after it was searched through again."""

    tuning: Tuning
    subject: Mapping[str, Any]


def load_tuning(path: Path) -> LoadedTuning:
    """The tuning that an evidence file records.

    The search is run again with the recorded verdicts: it must ask for just these, in this order,
    and find what the file says. Raises RelforgeError (SOURCE) for anything else.
    """
    parsed = read_object(path, sha256=None, refused=_refused)
    try:
        read = _Evidence.model_validate(parsed)
        recorded = [evaluation_of(row, read.operators) for row in read.evaluations]
    except ValidationError as error:
        raise _refused(path, reasons(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(path, f"an evaluation cannot be read: {error}") from error
    known = {one.asked: one.found for one in recorded}
    if len(known) != len(recorded):
        raise _refused(path, "it asks for the same verdict twice")
    stopped = read.result.get("state") == "stopped"

    def answered(asked: Asked) -> Found:
        if asked not in known:
            raise LookupError(f"a verdict with {len(asked.disabled)} operators disabled")
        return known[asked]

    limits = Limits(len(recorded) if stopped else None, None, read.limits.levels)
    try:
        again = tune(read.operators, answered, limits, suspects=read.suspects)
    except LookupError as missing:
        raise _refused(path, f"its search needs what it does not have: {missing}") from missing
    except ValueError as error:
        raise _refused(path, str(error)) from error
    if list(again.evaluations) != recorded:
        raise _refused(path, "its verdicts are not those that the search asks for, in its order")
    found = result_of(again)
    if stopped:
        found["reason"] = read.result.get("reason")
    for name, value in found.items():
        if not _same(value, read.result.get(name)):
            raise _refused(
                path, f"it says {name} {read.result.get(name)!r}, its verdicts give {value!r}"
            )
    return LoadedTuning(tuning=again, subject=read.subject)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, abs_tol=0.01)
    return bool(one == other)


def output_of(tuning: Tuning, subject: Mapping[str, Any], evidence: Path) -> TuneOutput:
    """The stable form of a tuning; *subject* as its evidence has it."""
    disabled = tuple(subject.get("already_disabled", subject.get("excluded", ())))
    place = subject.get("place")
    value = str(subject.get("separator", ",")).join((*disabled, *tuning.culprits))
    return TuneOutput(
        **{
            **result_of(tuning),
            "subject": _named(subject),
            "operators": len(tuning.operators),
            "already_disabled": disabled,
            # Only what is known to pass is worth a place there.
            "set_in_manifest": {str(place): value} if place and tuning.confirmed else {},
            "evidence": str(evidence),
        }
    )


def _named(subject: Mapping[str, Any]) -> str:
    if "release" in subject:
        return str(subject["release"])
    model = subject.get("model")
    parts = (model.get("name") if isinstance(model, dict) else None, subject.get("dtype"))
    return ", ".join(str(part) for part in (*parts, subject.get("device")) if part) or "unnamed"


def _refused(path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "the tuning's evidence cannot be used",
        code=ExitCode.SOURCE,
        where=str(path),
        why=why,
        hint="restore the file, or tune again",
    )
