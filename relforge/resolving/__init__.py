"""Makes a lock: imports the sources, applies the patch sets, resolves the Python packages."""

from __future__ import annotations

from pathlib import Path

from relforge.cancel import CancelToken
from relforge.lock import Lock, request_key
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.resolving.packages import packages_of
from relforge.resolving.patches import patches_of
from relforge.resolving.resolving import OnLine, Resolving
from relforge.resolving.sources import image_of, sources_of

# 1980 is the earliest time a wheel's archive can hold; used when no source carries a date.
_EARLIEST_EPOCH_S = 315_532_800


def resolve_lock(
    project: Project,
    release: Release,
    site: Site,
    *,
    home: Path,
    on_line: OnLine,
    cancel: CancelToken,
    partial: bool = False,
) -> Lock:
    """Resolves every moving part of a release.

    Wheels of an earlier lock are kept while the request for packages is the same, so that locking
    again after a patch changed moves nothing else. With ``partial`` what cannot be had here is
    said and stays unresolved; nothing is built of such a lock. Raises RelforgeError.
    """
    builds = release.build.image is None
    device = project.device(release.device).for_release(release.stack, builds=builds)
    making = Resolving(project, release, device, site, home, on_line, cancel, partial)
    sources = sources_of(making)
    patches = patches_of(making, sources)
    packages = packages_of(making, sources)
    dates = [s.created_s for s in sources.values() if s.created_s is not None]
    return Lock(
        release=release.name,
        request=request_key(release, device),
        source_date_epoch=max([_EARLIEST_EPOCH_S, *dates]),
        sources=sources,
        patches=patches,
        image=image_of(making),
        packages=packages.request,
        wheels=packages.wheels,
        build_wheels=packages.build_wheels,
    )
