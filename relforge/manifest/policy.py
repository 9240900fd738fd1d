"""What a release must have before it is promoted, or before somebody takes it (docs/verify.md)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import Line, Reason
from relforge.manifest.loader import load
from relforge.manifest.publishing import LicensePolicy

StageName = Literal["smoke", "evaluate", "bench", "coverage", "sbom", "scan"]
AttestationName = Literal[
    "provenance", "smoke", "evaluation", "benchmark", "coverage", "scan", "spdx", "cyclonedx",
    "vulnerabilities", "release",
]  # fmt: skip
Severity = Literal["none", "low", "medium", "unknown", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("none", "low", "medium", "unknown", "high", "critical")
"""From harmless to worst. What nobody has rated counts as worse than medium."""

SignerName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""The name of a key in ``trusted_keys``, its file's name, or its key id (64 hexadecimal digits)."""
ReleasePattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A release's name, or several with ``*`` and ``?``."""

STAGE_OF: dict[AttestationName, StageName] = {
    "smoke": "smoke",
    "evaluation": "evaluate",
    "benchmark": "bench",
    "coverage": "coverage",
    "scan": "scan",
    "spdx": "sbom",
    "cyclonedx": "sbom",
}
"""Whose result an attestation is: a stage that may be skipped needs no attestation."""


class AttestationRule(Frozen):
    """One that must be there; ``signers`` empty: by any of the policy's."""

    signers: tuple[SignerName, ...] = ()
    """Who may have signed it."""


class VulnerabilityRule(Frozen):
    """What the report of a vulnerability scanner may say."""

    required: bool = False
    """Whether there must be a report."""
    max_severity: Severity = "high"
    """The worst that is let through."""
    exceptions: dict[Line, Reason] = {}
    """Identifiers (``CVE-2024-1234``) that count for nothing, each with the reason."""


class Policy(Frozen):
    """Everything is demanded of the place that is verified; what is absent fails."""

    kind: Literal["policy"] = "policy"
    signed: bool = True
    """The image carries a signature of one of ``signers``."""
    signers: tuple[SignerName, ...] = ()
    """Which of the keys that the reader trusts may sign; empty: each of them."""
    minimum_signers: Annotated[int, Field(ge=1, le=16)] = 1
    """How many different keys have to have signed the image."""
    stages: tuple[StageName, ...] = ("smoke", "evaluate", "scan")
    """Those whose verdict has to be ``pass``. ``not-run`` never counts as ``pass``."""
    may_skip: dict[StageName, tuple[ReleasePattern, ...]] = {}
    """Releases that may go without a stage, where their manifest says why (``skip``)."""
    untested_platforms: dict[Line, Reason] = {}
    """Of an image for several architectures: those (``linux/arm64``) of which no results of their
    own are asked, each with the reason. Of every other the same stages have to have passed on the
    image of that architecture, by statements that are attached to it and signed."""
    attestations: dict[AttestationName, AttestationRule] = {
        "provenance": AttestationRule(),
        "smoke": AttestationRule(),
        "evaluation": AttestationRule(),
        "scan": AttestationRule(),
        "release": AttestationRule(),
    }
    """Those that must be there, signed."""
    sbom: Literal["spdx", "cyclonedx", "any"] | None = "any"
    """A bill of materials in this form; None: none is asked for."""
    vulnerabilities: VulnerabilityRule = VulnerabilityRule()
    """What a scanner's report may say."""
    licenses: LicensePolicy = LicensePolicy()
    """Which licences the image may not hold."""
    labels: dict[Line, Line] = {}
    """Labels that the image must have, with the value as a pattern with ``*`` and ``?``."""
    builders: tuple[ReleasePattern, ...] = ()
    """Builder ids that the provenance may name, as patterns; empty: any."""
    not_before: datetime | None = None
    """The record is not older; a time of day without zone is UTC."""
    max_age_days: Annotated[float, Field(gt=0)] | None = None
    """Of the record."""
    minimum_serial: Annotated[int, Field(ge=1)] | None = None
    """Of the release statement: an older one that is played back has a lower serial."""
    clean_source: bool = False
    """The release's project had no changes that were not committed."""

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        if not self.signed and (self.signers or self.minimum_signers > 1):
            raise ValueError("`signers` and `minimum_signers` need `signed: true`")
        if self.signers and self.minimum_signers > len(self.signers):
            raise ValueError("`minimum_signers` is more than `signers` names")
        for stage in self.may_skip:
            if stage not in self.stages:
                raise ValueError(f"may_skip names {stage}, which `stages` does not ask for")
        return self


def load_policy(path: Path | None) -> Policy:
    """The policy of a file; None: the built-in one. Raises RelforgeError (USAGE)."""
    return Policy() if path is None else load(path, Policy)
