"""What linters say of a Dockerfile, and which of their rules do not fit the ones rendered here."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Remark:
    """One remark of a linter; ``line`` counts from 1 in the rendered Dockerfile."""

    linter: str
    rule: str
    line: int
    message: str
    about: str | None
    """Where the rule is explained."""


@dataclass(frozen=True)
class Exempt:
    """A rule that does not fit; with ``stages``, in stages whose names match these only."""

    rule: str
    reason: str
    stages: tuple[str, ...] = ()


EXEMPT = (
    Exempt(
        "DL3008",
        "which versions Debian has is the mirror's business (apt_mirror of a site may be a "
        "snapshot); the record lists those that an image got",
    ),
    Exempt("DL3002", "this stage reads a finished image and is no part of it", ("report-run",)),
    Exempt(
        "DL3003",
        "a tree's own scripts are started in their folder; this stage is no part of an image",
        ("wheel-*",),
    ),
    Exempt(
        "InvalidDefaultArgInFrom",
        "a build names BASE_IMAGE by digest; one that does not has to fail, not to take another",
    ),
)


def is_exempt(remark: Remark, stage: str | None) -> bool:
    """Whether a remark on a line of this stage is none of ours."""
    return any(
        one.rule == remark.rule
        and (not one.stages or any(fnmatchcase(stage or "", name) for name in one.stages))
        for one in EXEMPT
    )
