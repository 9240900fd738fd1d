"""The backends of one device beside each other: their tasks, and what they say of each other."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.patching.flagscale import names
from relforge.patching.flagscale.diff_yaml import DiffYaml
from relforge.patching.lint.model import Finding, finding
from relforge.patching.lint.objects import Look, Unit


def check_siblings(look: Look, units: list[Unit]) -> Iterator[Finding]:
    """Backends of one device: their tasks, and what they say of each other."""
    described = [(u, d) for u in units if isinstance(d := look.description(u), DiffYaml)]
    if len({frozenset(d.task) for _, d in described}) > 1:
        listed = (f"{u.name} {'+'.join(d.task) or 'none'}" for u, d in described)
        yield finding(
            "siblings-tasks",
            "warning",
            f"hardware/{units[0].device}",
            f"its backends are for different tasks: {', '.join(listed)}; FlagScale's tools do not "
            "look, and would apply them together",
            "name each entry's commit in the history file; ask by task, not for HEAD",
        )
    own = {unit.name: (unit, one) for unit, one in described}
    for unit, one in described:
        for backend, commit in one.backends_commit.items():
            if backend == unit.name or backend not in own:
                continue
            other_unit, other = own[backend]
            said = other.backends_commit.get(backend)
            if said and said != commit and unit.name != names.ROOT_BACKEND:
                yield finding(
                    "siblings-disagree",
                    "warning",
                    unit.where(unit.described_in),
                    f"it is for {backend} {commit[:12]}, but "
                    f"{other_unit.where(other_unit.described_in)} is for {said[:12]}: the two do "
                    "not work together",
                    "publish both for one state",
                )
    for n, (unit, one) in enumerate(described):
        for other_unit, other in described[n + 1 :]:
            shared = set(one.task) & set(other.task) & set(names.TASKS)
            if shared and one.commit != other.commit:
                yield finding(
                    "siblings-bases",
                    "note",
                    unit.where(unit.described_in),
                    f"{unit.name} is for {one.commit[:12]}, {other_unit.name} for "
                    f"{other.commit[:12]}, both for {'+'.join(sorted(shared))}",
                    "publish the backends of one task for one base",
                )
