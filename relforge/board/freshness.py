"""Whether a record is what the project's manifests plan now, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relforge.card.model import Said
from relforge.explaining import changes, with_stages
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan

_OF_THIS_HOST = frozenset(stage.name for stage in STAGES if stage.check_only)


def differences(inputs: Mapping[str, Any], plan: ReleasePlan) -> tuple[Said, ...]:
    """Why the stages' keys of now are not those of a record; empty where they all are.

    ``inputs`` are the record's, each a stage's key and values. A stage whose inputs differ in
    nothing but the keys of earlier stages is not named: what those say is the reason.
    """
    recorded = {name: _part(inputs, name) for name in inputs if name not in _OF_THIS_HOST}
    before = {name: str(part.get("key")) for name, part in recorded.items()}
    now = {s.name: s.key for s in plan.stages if s.key and s.name not in _OF_THIS_HOST}
    found: list[Said] = []
    for stage in (one.name for one in plan.stages):
        if stage not in now and stage not in before:
            continue
        if stage not in before:
            found.append(Said(text="%(stage)s: not in the record", values={"stage": stage}))
        elif stage not in now:
            found.append(Said(text="%(stage)s: not planned any more", values={"stage": stage}))
        elif now[stage] != before[stage]:
            old = recorded[stage].get("values")
            new = plan.inputs[stage].model_dump(mode="json")
            told = with_stages(changes(old, new), before, now)
            own = [one for one in told if one.stage is None]
            found += [
                Said(text="%(stage)s: %(change)s", values={"stage": stage, "change": one.phrase})
                for one in own
            ]
            if not told:
                found.append(
                    Said(text="%(stage)s: done in another way than then", values={"stage": stage})
                )
    if not found and before != now:  # the keys of earlier stages alone, which all have their reason
        found.append(Said(text="other content keys than then"))
    return tuple(found)


def _part(inputs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = inputs.get(name)
    return part if isinstance(part, Mapping) else {}
