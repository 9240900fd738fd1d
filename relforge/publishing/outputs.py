"""What verbs print that build and send releases: the stages' result, and what the targets got.

Apart from ``delivering``, because whoever only sends loads nothing of stages and plans.
"""

from __future__ import annotations

from relforge.evidence.record import ReleaseOutput, ReleasesOutput
from relforge.publishing.delivering import TargetOutcome


class SentOutput(ReleaseOutput):
    """What ``relforge release --json`` and ``relforge publish --json`` print; stable.

    ``sent`` says what came of the targets that were named.
    """

    sent: tuple[TargetOutcome, ...] = ()


class SentReleasesOutput(ReleasesOutput):
    """The same for several releases."""

    releases: tuple[SentOutput, ...]
