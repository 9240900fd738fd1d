"""Sources and images of others, as a lock pins them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.lock import LockedImage, LockedSource, image_request
from relforge.manifest.device import Device
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.manifest.source import GitSource, SourceSpec
from relforge.resolving.attempt import Attempt, OnLine


def sources_of(
    release: Release,
    site: Site,
    home: Path,
    on_line: OnLine,
    cancel: CancelToken,
    attempt: Attempt,
) -> dict[str, LockedSource]:
    from relforge.sources.api import import_source

    found = {}
    for name, spec in release.sources.items():
        cancel.check()
        imported = attempt(
            name,
            partial(
                import_source, name, spec, home=home, site=site, ctx_line=on_line, cancel=cancel
            ),
        )
        if imported is None:
            found[name] = _pinned(spec)
            continue
        identity = (
            f"{imported.url}@{imported.commit}"
            if imported.kind == "git"
            else f"{imported.package}=={imported.version}"
        )
        found[name] = LockedSource(
            kind=imported.kind,
            identity=identity,
            file_name=imported.file_name,
            sha256=imported.sha256,
            commit=imported.commit,
            tree=imported.tree,
            created_s=imported.created_epoch,
        )
        on_line(f"{name}: {identity} is tree {imported.tree}")
    return found


def _pinned(spec: SourceSpec) -> LockedSource:
    """A source that could not be had, as its manifest pins it."""
    if isinstance(spec, GitSource):
        return LockedSource(
            kind="git", identity=f"{spec.url}@{spec.commit}", commit=spec.commit, tree=None
        )
    return LockedSource(
        kind=spec.kind, identity=f"{spec.package}=={spec.version}", sha256=spec.sha256, tree=None
    )


def image_of(
    release: Release, device: Device, site: Site, on_line: OnLine, attempt: Attempt
) -> LockedImage | None:
    """The digest of an image that is not pinned by its manifest."""
    wanted = image_request(release, device)
    if wanted is None:
        return None
    digest = wanted.digest
    if digest == UNRESOLVED:
        from relforge.engine.given_image import digest_of

        found = attempt(wanted.reference, lambda: digest_of(wanted, device.architecture, site))
        digest = found or UNRESOLVED
        if found:
            on_line(f"{wanted.reference}: {found}")
    return LockedImage(reference=wanted.reference, digest=digest)
