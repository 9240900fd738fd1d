"""What verifying found: one finding for each check, and what all of them say together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from relforge.frozen import Frozen

Said = Literal["pass", "fail", "not-run"]
Kind = Literal["folder", "registry", "tar"]
_MOST = 8
"""Problems of one check that are shown; an altered folder can have thousands."""


class Finding(Frozen):
    """One check with what it found.

    ``reason`` names the culprit. ``meaning`` says what a failure means for whoever wants to use the
    release, ``next`` what to do about it; both are empty where it passed.
    """

    check: str
    verdict: Said
    reason: str
    meaning: str = ""
    next: str = ""


class Signer(Frozen):
    """A key whose signature was found to be good. ``keyid`` is the SHA-256 of its DER form."""

    name: str
    keyid: str


class VerifyReport(Frozen):
    """What ``relforge verify --json`` prints; stable.

    The verdict is ``fail`` when a check failed; a check that is ``not-run`` was neither asked for
    nor possible, and says why. ``folder`` is the place as it was named, whatever its ``kind``.
    """

    folder: str
    verdict: Literal["pass", "fail"]
    checks: tuple[Finding, ...]
    kind: Kind = "folder"
    release: str | None = None
    image_digest: str | None = None
    created: str | None = None
    """When the release was made, as its record says."""
    looked_at: tuple[str, ...] = ()
    """What was read, for people."""
    keys: tuple[Signer, ...] = ()
    """The keys that signatures were checked with."""
    signers: tuple[Signer, ...] = ()
    """Those of them that signed the image."""
    policy: str | None = None
    """The policy's file, or the name of the built-in one; None: nothing was asked of it."""

    def finding(self, check: str) -> Finding:
        """That of a check. Raises KeyError."""
        return {one.check: one for one in self.checks}[check]

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.checks if one.verdict == "fail")


class Outcome(Frozen):
    """What a check says of itself, before it is worded."""

    verdict: Said
    reason: str


def passed(reason: str) -> Outcome:
    return Outcome(verdict="pass", reason=reason)


def not_run(reason: str) -> Outcome:
    return Outcome(verdict="not-run", reason=reason)


def failed(problems: Iterable[str]) -> Outcome:
    found = list(problems)
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return Outcome(verdict="fail", reason="; ".join(found[:_MOST]) + more)


def judged(problems: Iterable[str], good: str) -> Outcome:
    """``good`` where there is no problem."""
    found = list(problems)
    return failed(found) if found else passed(good)
