"""Packages of two images: which came, went, and went up or down."""

from __future__ import annotations

from collections.abc import Mapping

from relforge.notes.model import Direction, PackageChange


def python_changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[PackageChange, ...]:
    """Python packages, by their normalised names; the order of versions is that of PEP 440."""
    from packaging.utils import canonicalize_name

    names = {str(canonicalize_name(name)): name for name in (*old, *new)}
    before = {str(canonicalize_name(name)): version for name, version in old.items()}
    after = {str(canonicalize_name(name)): version for name, version in new.items()}
    return tuple(
        PackageChange(
            name=names[key],
            direction=_direction(before.get(key), after.get(key), ordered=True),
            before=before.get(key),
            after=after.get(key),
        )
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    )


def debian_changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[PackageChange, ...]:
    """Packages of the distribution. Of two versions it is only said that they differ."""
    return tuple(
        PackageChange(
            name=name,
            direction=_direction(old.get(name), new.get(name), ordered=False),
            before=old.get(name),
            after=new.get(name),
        )
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _direction(before: str | None, after: str | None, *, ordered: bool) -> Direction:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if not ordered:
        return "changed"
    from packaging.version import InvalidVersion, Version

    try:
        one, other = Version(before), Version(after)
    except InvalidVersion:
        return "changed"
    if one == other:
        return "changed"
    return "up" if other > one else "down"
