"""What a card is made of: manifests, the lock, and the results that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relforge.benching.model import BenchReport
from relforge.coverage.summary import CoverageRow
from relforge.evaluation.figures import Figures
from relforge.lock import LockedImage, LockedPatchSet, LockedSource
from relforge.manifest.device import Device
from relforge.manifest.model import Model
from relforge.manifest.reference import ReferenceFigures
from relforge.manifest.release import Release
from relforge.stages.attest import Signed
from relforge.stages.build import BuildResult
from relforge.stages.sbom import SbomResult
from relforge.stages.scan import ScanResult
from relforge.stages.smoke import SmokeResult


@dataclass(frozen=True)
class Material:
    """A result that is None was not made, and ``why_not`` may say why, by stage.

    ``trees``: of each source after its patch set, None where nobody knows it yet. ``device`` is on
    the release's stack. ``references`` are those of the model and of its base model.
    """

    release: Release
    device: Device
    model: Model
    sources: Mapping[str, LockedSource]
    patches: Mapping[str, LockedPatchSet]
    lock_sha256: str
    trees: Mapping[str, str | None]
    locked_image: LockedImage | None = None
    """The base image, or the whole one that is taken as it is."""
    build: BuildResult | None = None
    smoke: SmokeResult | None = None
    evaluation: tuple[Figures, ...] = ()
    performance: BenchReport | None = None
    sbom: SbomResult | None = None
    coverage: tuple[CoverageRow, ...] = ()
    scan: ScanResult | None = None
    sealed: frozenset[str] = frozenset()
    why_not: Mapping[str, str] = field(default_factory=dict)
    references: tuple[ReferenceFigures, ...] = ()
    registry: str | None = None
    signed: Signed | None = None
    """Who signed the image and what is said about it; None: nobody."""
