"""What a CI has to run, and on which runners: computed from the manifests when a workflow runs, so
that a new release needs no new workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.ci import CiSite
from relforge.manifest.device import Device
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.project import Project
from relforge.manifest.site import Site
from relforge.subject import subject

MOST_JOBS = 256
"""What GitHub takes in one matrix."""
_SELF_HOSTED = "self-hosted"


class MatrixJob(Frozen):
    """One job: releases of one device, and the runners that can do it."""

    name: str
    """The release, or the device where it has a job for all of its releases."""
    device: str
    releases: tuple[str, ...]
    verb: Literal["smoke", "build"]
    """What a change runs: a processor's releases are served and probed, the others built."""
    build_runner: tuple[str, ...]
    """Labels of the runner on GitHub that does this."""
    runner: tuple[str, ...]
    """Labels of the device's own runner on GitHub, which releases."""
    tags: tuple[str, ...]
    """The device's own runner on GitLab."""
    hosted: bool
    """``build_runner`` is one of the CI's own, which keeps nothing."""


class LeftOut(Frozen):
    """A release that no job is for: something of it is open, so it cannot be built yet."""

    release: str
    reason: str


class CiMatrix(Frozen):
    """What ``relforge plan --matrix`` prints, on one line; stable."""

    include: tuple[MatrixJob, ...]
    left_out: tuple[LeftOut, ...] = ()


def matrix_of(
    project: Project, site: Site, names: Sequence[str]
) -> tuple[CiMatrix, list[tuple[str, RelforgeError]]]:
    """The jobs for releases, and those that cannot be planned, with their errors.

    Raises RelforgeError (USAGE) for more jobs than a matrix can have.
    """
    jobs: list[MatrixJob] = []
    left_out: list[LeftOut] = []
    failed: list[tuple[str, RelforgeError]] = []
    for name in names:
        try:
            found = subject(project, project.release(name), site)
        except RelforgeError as error:
            failed.append((name, error))
            continue
        still_open = list(found.lock.unresolved)
        if getattr(found.model.weights, "revision", None) == UNRESOLVED:
            still_open.append(f"weights of {found.model.name}")
        if still_open:
            reason = f"not resolved: {'; '.join(still_open)}"
            left_out.append(LeftOut(release=name, reason=reason))
        else:
            jobs.append(_job(name, found.device, site.ci))
    if site.ci.per == "device":
        jobs = _by_device(jobs)
    if len(jobs) > MOST_JOBS:
        raise RelforgeError(
            f"{len(jobs)} jobs are more than a matrix can have",
            code=ExitCode.USAGE,
            where=str(site.file) if site.file else None,
            why=f"GitHub takes {MOST_JOBS}",
            hint="set `per: device` under `ci` in the site configuration",
        )
    return CiMatrix(include=tuple(jobs), left_out=tuple(left_out)), failed


def _job(name: str, device: Device, ci: CiSite) -> MatrixJob:
    labels = ci.labels.get(device.name) or (_SELF_HOSTED, f"relforge-{device.name}")
    # One of the CI's own is a processor of this kind, and has an engine.
    hosted = not device.accelerator and device.architecture == "amd64"
    hosted = hosted and device.name not in ci.labels
    return MatrixJob(
        name=name,
        device=device.name,
        releases=(name,),
        verb="build" if device.accelerator else "smoke",
        build_runner=(ci.runner,) if hosted else labels,
        runner=labels,
        tags=tuple(label for label in labels if label != _SELF_HOSTED),
        hosted=hosted,
    )


def _by_device(jobs: Sequence[MatrixJob]) -> list[MatrixJob]:
    found: dict[str, MatrixJob] = {}
    for job in jobs:
        before = found.get(job.device)
        releases = (*(before.releases if before else ()), *job.releases)
        found[job.device] = job.model_copy(update={"name": job.device, "releases": releases})
    return list(found.values())
