"""Who can open the sealed patch sets of a job: the recipients that their bundles name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relforge.errors import RelforgeError
from relforge.executor.ray_host import own_keys
from relforge.manifest.project import Project
from relforge.stage import Job


def openers_of(job: Job[Any]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The fingerprints of the recipients of each sealed set that the job opens, and of this host's
    own keys. A set in FlagScale's format names no recipient: none of a fingerprint is asked for."""
    if "identities" not in job.secrets:
        return (), ()
    sets = (*getattr(job.inputs, "sets", ()), *getattr(job.upstream.get("unpatch"), "sets", ()))
    sealed = {one.name: one for one in sets if one.sealed}
    return tuple(_recipients(one, job) for one in sealed.values()), own_keys(job.env.site)


def _recipients(patch_set: Any, job: Job[Any]) -> tuple[str, ...]:
    from relforge.patching.bundle import BundlePatches
    from relforge.patching.bundle.header import read_header
    from relforge.patching.kinds import patch_set_at

    path: Path | None = job.env.site.patch_sets.get(patch_set.name)
    if path is None and patch_set.repository is not None:
        return ()
    try:
        found = patch_set_at(path or Project(job.env.project_roots).path(patch_set.path))
        if not isinstance(found, BundlePatches):
            return ()
        # Whether its signature counts, the host that opens it decides.
        header = read_header(found.path, (), allow_unsigned=True).header
    except RelforgeError:
        return ()
    return tuple(recipient.fingerprint for recipient in header.recipients)
