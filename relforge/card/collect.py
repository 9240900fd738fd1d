"""The material of a release's card from its plan: what was made before and still counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from relforge.card.parts.material import Material
from relforge.card.parts.scores import references_of
from relforge.frozen import content_key
from relforge.lock import LockedPatchSet, LockedSource
from relforge.plan import ReleasePlan, Subject
from relforge.stage import Skip, StageResult
from relforge.stages.attest import AttestResult
from relforge.stages.bench import BenchResult
from relforge.stages.build import BuildResult
from relforge.stages.coverage import CoverageResult
from relforge.stages.evaluate import EvaluateResult
from relforge.stages.sbom import SbomResult
from relforge.stages.scan import ScanResult
from relforge.stages.smoke import SmokeResult
from relforge.stages.unpatch import UnpatchResult

_MEASURED = ("smoke", "evaluate", "bench", "coverage", "sbom", "scan")
_OF_IMAGE = (*_MEASURED, "attest")
"""Stages whose results are about one image."""


def skipped(skips: Mapping[str, Skip], release_skips: Mapping[Any, str]) -> dict[str, str]:
    """Why stages were not run that a reader would look for."""
    # What the release has no use for is no limit of it; what it goes without is.
    named = {*release_skips, "evaluate", "bench", "coverage"}
    return {
        name: skip.reason
        for name, skip in skips.items()
        if skip.kind == "not-built-yet" or name in named
    }


def known_tree(
    name: str, source: LockedSource, patches: Mapping[str, LockedPatchSet]
) -> str | None:
    """The tree of a source after its patch set, None where the lock cannot tell it yet."""
    for patch_set in patches.values():
        if patch_set.source == name:
            return patch_set.result_tree
    return source.tree


def sealed_sets(subject: Subject) -> frozenset[str]:
    """The patch sets that only a key opens, bundles and FlagScale's encrypted entries alike."""
    encrypted = (p.name for p in subject.release.patches if p.path.endswith(".encrypted"))
    return frozenset((*subject.sealed, *encrypted))


def results_of(found: Mapping[str, StageResult]) -> dict[str, Any]:
    """The results of stages as ``Material`` takes them."""
    evaluation = cast("EvaluateResult | None", found.get("evaluate"))
    bench = cast("BenchResult | None", found.get("bench"))
    coverage = cast("CoverageResult | None", found.get("coverage"))
    attested = cast("AttestResult | None", found.get("attest"))
    return {
        "build": cast("BuildResult | None", found.get("build")),
        "smoke": cast("SmokeResult | None", found.get("smoke")),
        "evaluation": evaluation.tasks if evaluation else (),
        "performance": bench.report if bench and bench.verdict == "pass" else None,
        "coverage": coverage.summary if coverage else (),
        "sbom": cast("SbomResult | None", found.get("sbom")),
        "signed": attested.signed if attested else None,
        "scan": cast("ScanResult | None", found.get("scan")),
    }


def trees_of(
    sources: Mapping[str, LockedSource],
    patches: Mapping[str, LockedPatchSet],
    unpatched: StageResult | None,
) -> dict[str, str | None]:
    """The tree of each source, as the lock and the patching say."""
    applied = unpatched.sets if isinstance(unpatched, UnpatchResult) else ()
    return {
        **{name: known_tree(name, source, patches) for name, source in sources.items()},
        **{one.source: one.result_tree for one in applied if one.result_tree},
    }


def material_of(plan: ReleasePlan) -> Material:
    """What the card of a release can say now; nothing is run for it.

    A result counts only with the build that it was made of.
    """
    subject = plan.subject
    lock = subject.lock
    found = dict(plan.reused)
    if "build" not in found:
        found = {name: result for name, result in found.items() if name not in _OF_IMAGE}
    skips = plan.skips
    if "build" not in found:
        # Of an image that is not there, what relforge cannot do yet is no limit.
        skips = {n: s for n, s in skips.items() if s.kind != "not-built-yet" or n in _MEASURED}
    why_not = skipped(skips, subject.release.skip)
    if "build" in found:
        why_not |= {
            stage.name: "it was not run on this image"
            for stage in plan.stages
            if stage.name in _MEASURED and stage.status == "run"
        }
    return Material(
        release=subject.release,
        device=subject.device,
        model=subject.model,
        sources=lock.sources,
        patches=lock.patches,
        locked_image=lock.image,
        lock_sha256=content_key(lock),
        trees=trees_of(lock.sources, lock.patches, found.get("unpatch")),
        sealed=sealed_sets(subject),
        why_not=why_not,
        references=references_of(subject.project, subject.model),
        registry=subject.registry,
        **results_of(found),
    )
