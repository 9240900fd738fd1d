"""Sbom: what is in the image and what that was made of, under which licences."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import InstanceOf

from relforge.evidence.store import Store
from relforge.lock import LockedPatchSet, LockedSource, LockedWheels
from relforge.manifest.publishing import LicensePolicy
from relforge.plan import Planning
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageInputs, StageResult
from relforge.stages.build import BuildResult
from relforge.ui.text import size

if TYPE_CHECKING:
    from relforge.engine.layout import ImageFacts
    from relforge.sbom.evidence import Licences
    from relforge.sbom.packages import Package

_GB = 10**9
_FILES = ("sbom.spdx.json", "sbom.cdx.json", "licenses.json")
_SHOWN = 10


class SbomInputs(StageInputs):
    """The image, what the lock says it was made of, the site's policy, and what reads it."""

    build_key: str
    tool: str | None
    """``syft`` with its version, which decides what is found; None: it is not here."""
    source_date_epoch: int
    sources: dict[str, LockedSource]
    patches: dict[str, LockedPatchSet]
    wheels: InstanceOf[LockedWheels]
    policy: LicensePolicy


class SbomResult(StageResult):
    """The documents, ``outputs`` in the order of ``evidence``; none where it was not run."""

    tool: str | None = None
    packages: dict[str, int] = {}
    """How many there are of each kind: ``deb``, ``python``, and what else syft knows."""
    licences: int = 0
    unstated: int = 0
    """Packages that state no licence."""
    unidentified: int = 0
    """Packages that state one, not all of it by SPDX identifiers."""
    python_licences: dict[str, str] = {}
    """For the card, of each installed distribution: an SPDX expression, or its own words."""

    def evidence(self) -> dict[str, Path]:
        return dict(zip(_FILES, (output.path for output in self.outputs), strict=False))


class Sbom(Stage[SbomInputs, SbomResult]):
    """syft reads the layout; relforge adds stated licences, wheels, sources and patch sets."""

    name = "sbom"
    revision = 2
    title = "bill of materials"
    needs = ("build",)
    result_type = SbomResult

    def plan(self, planning: Planning) -> SbomInputs | Skip:
        from relforge.sbom.syft import Syft, find

        subject = planning.subject
        if (reason := subject.release.skip.get("sbom")) is not None:
            return Skip(kind="not-needed", reason=reason)
        tool, lock = find(), subject.lock
        return SbomInputs(
            build_key=planning.key("build"),
            tool=f"syft {tool.version}" if isinstance(tool, Syft) else None,
            source_date_epoch=lock.source_date_epoch,
            sources=lock.sources,
            patches=lock.patches,
            wheels=lock.wheels,
            policy=subject.site.publish.licenses,
        )

    def resources(self, inputs: SbomInputs) -> Resources:
        # Measured on an image of 0.95 GB, 2.2 GB unpacked: 1.4 GB of memory, 2.2 GB of disk.
        if inputs.tool is None:
            return Resources()
        return Resources(cpu_cores=2, memory_bytes=2 * _GB, disk_bytes=3 * _GB)

    def run(self, job: Job[SbomInputs], ctx: StageContext) -> SbomResult:
        from relforge.engine.layout import describe
        from relforge.sbom.cyclonedx import cyclonedx_document
        from relforge.sbom.evidence import table
        from relforge.sbom.facts import Facts
        from relforge.sbom.known import scan_once
        from relforge.sbom.packages import canonical, packages_of
        from relforge.sbom.sources import patch_sets_of, sources_of
        from relforge.sbom.spdx import spdx_document
        from relforge.sbom.syft import INSTALL, Syft, find
        from relforge.sources.api import store_of

        inputs, env = job.inputs, job.env
        build = cast(BuildResult, job.upstream["build"])
        syft = find()
        if not isinstance(syft, Syft):
            return SbomResult(verdict="not-run", reason=f"{syft}; next: {INSTALL}")
        image = describe(build.layout)
        ctx.line(f"syft {syft.version} reads {image.digest[:19]}, {size(image.size_bytes)}")
        started = time.monotonic()
        scanned, known = scan_once(
            syft, build.layout, home=env.home, line=ctx.line, cancel=ctx.cancel
        )
        packages = packages_of(scanned)
        how = (
            "known: another image has the same files"
            if known
            else (f"in {time.monotonic() - started:.0f} s")
        )
        ctx.line(f"{len(packages)} packages, {how}")
        git = store_of(env.home)
        git.cancel = ctx.cancel
        facts = Facts(
            release=env.release,
            image_digest=image.digest,
            labels=image.labels,
            architecture=image.architecture,
            epoch_s=inputs.source_date_epoch,
            packages=packages,
            sources=sources_of(git, inputs.sources),
            patch_sets=patch_sets_of(inputs.patches, inputs.sources),
            built=build.packages,
            wheels={canonical(wheel.name): wheel for wheel in inputs.wheels.wheels},
        )
        licences = table(facts, inputs.policy, _layers(image))
        store = Store(env.home)
        outputs = tuple(
            store.put_blob(data)
            for data in (
                spdx_document(scanned.spdx, facts),
                cyclonedx_document(scanned.cyclonedx, facts),
                licences.model_dump_json(indent=1).encode() + b"\n",
            )
        )
        fault = _absent(build, packages) or _forbidden(licences, env.site.file)
        return SbomResult(
            verdict="fail" if fault else "pass",
            reason=fault or _counted(licences),
            tool=f"syft {syft.version}",
            packages=licences.counts,
            licences=licences.licences,
            unstated=licences.unstated,
            unidentified=licences.unidentified,
            python_licences=_python_licences(packages),
            outputs=outputs,
        )


def count(number: int, what: str) -> str:
    """``1 package``, ``2 packages``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _layers(image: ImageFacts) -> dict[str, str]:
    return {layer.diff_id: layer.digest for layer in image.layers}


def _counted(licences: Licences) -> str:
    packages = sum(licences.counts.values())
    counted = f"{count(packages, 'package')}, {count(licences.licences, 'licence')}"
    gaps = []
    if licences.unstated:
        gaps.append(f"{count(licences.unstated, 'package')} without a statement")
    if licences.unidentified:
        gaps.append(f"{count(licences.unidentified, 'package')} in words that SPDX does not know")
    return "; ".join((counted, *gaps))


def _absent(build: BuildResult, packages: tuple[Package, ...]) -> str | None:
    """What the image itself lists, and syft did not find: then the documents are not whole."""
    from relforge.sbom.packages import canonical

    found = {(one.kind, canonical(one.name), one.version) for one in packages}
    listed: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("python", build.python_packages),
        ("deb", build.debian_packages),
    )
    absent = sorted(
        f"{name} {version}"
        for kind, known in listed
        for name, version in known.items()
        if (kind, canonical(name), version) not in found
    )
    if not absent:
        return None
    return (
        f"the bill of materials lacks {count(len(absent), 'package')} of the image's own list: "
        f"{', '.join(absent[:_SHOWN])}"
    )


def _forbidden(licences: Licences, site: Path | None) -> str | None:
    hits = licences.forbidden
    if not hits:
        return None
    names = len({(hit.name, hit.version) for hit in hits})
    lines = [f"{count(names, 'package')} with a licence that the site forbids"]
    lines += [
        f"{hit.name} {hit.version}: {', '.join(hit.licences)} "
        f"(forbidden: {', '.join(hit.forbidden)}), {hit.where}"
        for hit in hits[:_SHOWN]
    ]
    if len(hits) > _SHOWN:
        lines.append(f"and {len(hits) - _SHOWN} more, all of them in licenses.json")
    lines.append(
        "to allow one, name it with the reason: publish.licenses.allowed_packages: "
        f"{{{hits[0].name}: REASON}} in {site or 'the site configuration'}"
    )
    return "\n".join(lines)


def _python_licences(packages: tuple[Package, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        if package.installed_distribution is not None:
            licence = package.licence
            words = licence.refs.get(licence.expression) if licence else "not stated"
            short = words if words is not None and len(words) <= 60 else None
            found[package.name] = short or (licence.expression if licence else "not stated")
    return dict(sorted(found.items()))
