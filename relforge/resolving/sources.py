"""Sources and images of others, as a lock pins them."""

from __future__ import annotations

from functools import partial

from relforge.lock import LockedImage, LockedSource, image_request
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.source import GitSource, SourceSpec
from relforge.resolving.resolving import Resolving


def sources_of(making: Resolving) -> dict[str, LockedSource]:
    """Every source of the release, imported into the store."""
    from relforge.sources.api import import_source

    found = {}
    for name, spec in making.release.sources.items():
        making.cancel.check()
        imported = making.attempt(
            name,
            partial(
                import_source,
                name,
                spec,
                home=making.home,
                site=making.site,
                ctx_line=making.line,
                cancel=making.cancel,
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
        making.line(f"{name}: {identity} is tree {imported.tree}")
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


def image_of(making: Resolving) -> LockedImage | None:
    """The digest of an image that is not pinned by its manifest."""
    wanted = image_request(making.release, making.device)
    if wanted is None:
        return None
    digest = wanted.digest
    if digest == UNRESOLVED:
        from relforge.engine.given_image import digest_of

        found = making.attempt(
            wanted.reference,
            lambda: digest_of(wanted, making.device.architecture, making.site),
        )
        digest = found or UNRESOLVED
        if found:
            making.line(f"{wanted.reference}: {found}")
    return LockedImage(reference=wanted.reference, digest=digest)
