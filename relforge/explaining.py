"""Why a stage runs: what differs between the inputs of its last result and those of now."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from relforge.frozen import Frozen
from relforge.stage import Resources

_DIFF_LINES = 40
_LONGEST = 200


class Change(Frozen):
    """One place in a stage's inputs that differs.

    ``before`` and ``now`` are the values as text, shortened; None where there is none. ``diff`` has
    the lines that differ of a text of several. ``stage`` names the earlier stage of which this is
    the key: why that one is another stands there.
    """

    where: str
    before: str | None
    now: str | None
    diff: tuple[str, ...] = ()
    stage: str | None = None

    @property
    def phrase(self) -> str:
        """For one line of a plan."""
        if self.before is None:
            return f"{self.where} is new"
        if self.now is None:
            return f"{self.where} is gone"
        return f"{self.where}: {_short(self.before)} → {_short(self.now)}"


class Explanation(Frozen):
    """What ``relforge plan --explain`` says of a stage beside its status.

    ``compared_with`` is the key of the last result for this release; None: there is none, or its
    record is gone, and then nothing can be compared.
    """

    does: str
    """The stage in words."""
    reads: tuple[str, ...]
    """The earlier stages whose results it reads."""
    needs: Resources
    secrets: tuple[str, ...]
    compared_with: str | None
    changes: tuple[Change, ...] = ()


def differences(old: Any, new: Any) -> list[str]:
    """What differs between two JSON values, one phrase per place."""
    return [change.phrase for change in changes(old, new)]


def changes(old: Any, new: Any, path: str = "") -> list[Change]:
    """What differs between two JSON values, place by place.

    Members of lists are compared by their ``name`` where they have one, else by position.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return _of_mappings(old, new, path, "{path}.{name}" if path else "{name}")
    if isinstance(old, list) and isinstance(new, list):
        if (named := _by_name(old, new)) is not None:
            return _of_mappings(*named, path, "{path}[{name}]")
        if len(old) == len(new):
            return [
                change
                for index, (left, right) in enumerate(zip(old, new, strict=True))
                for change in changes(left, right, f"{path}[{index}]")
            ]
    if old == new:
        return []
    return [_change(path or "inputs", old, new)]


def with_stages(
    found: Sequence[Change], before: Mapping[str, str], now: Mapping[str, str]
) -> tuple[Change, ...]:
    """The same; a value that was an earlier stage's key and is its key now names that stage."""
    of_key = {key: stage for stage, key in before.items()}
    named = []
    for change in found:
        stage = of_key.get(change.before or "")
        if stage is not None and change.now == now.get(stage):
            change = change.model_copy(update={"stage": stage})
        named.append(change)
    return tuple(named)


def _of_mappings(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str, form: str
) -> list[Change]:
    found: list[Change] = []
    for name in sorted({*old, *new}):
        where = form.format(path=path, name=name)
        if name not in old:
            found.append(Change(where=where, before=None, now=_text(new[name])))
        elif name not in new:
            found.append(Change(where=where, before=_text(old[name]), now=None))
        else:
            found.extend(changes(old[name], new[name], where))
    return found


def _by_name(old: list[Any], new: list[Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    found = []
    for side in (old, new):
        named = {
            str(item["name"]): item for item in side if isinstance(item, dict) and "name" in item
        }
        if len(named) != len(side):
            return None
        found.append(named)
    # Another order of the same members is a difference that names do not show.
    common = [name for name in found[0] if name in found[1]]
    if common != [name for name in found[1] if name in found[0]]:
        return None
    return found[0], found[1]


def _change(where: str, old: Any, new: Any) -> Change:
    diff: tuple[str, ...] = ()
    if isinstance(old, str) and isinstance(new, str) and ("\n" in old or "\n" in new):
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
        told = [line for line in lines if not line.startswith(("---", "+++"))]
        diff = tuple(told[:_DIFF_LINES])
        if len(told) > _DIFF_LINES:
            diff += (f"and {len(told) - _DIFF_LINES} more lines",)
    return Change(where=where, before=_text(old), now=_text(new), diff=diff)


def _text(value: Any) -> str:
    text = str(value)
    if "\n" in text:
        return f"text of {len(text.splitlines())} lines"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _short(text: str) -> str:
    if len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text):
        return text[:8]
    return text if len(text) <= 40 else f"{text[:37]}..."
