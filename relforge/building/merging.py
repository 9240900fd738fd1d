"""Build, of several architectures: the image that was built here, and those of other hosts, as one.

From here on the release is the index of them: what is tested, scanned, signed and published is that
very digest. Each other image comes with all that is attached to it, its own signed results among
it, which a policy asks for (``verifying/platforms.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.build import OtherImage
from relforge.manifest.site import Site
from relforge.stage import Job, StageContext

if TYPE_CHECKING:
    from relforge.building.inputs import BuildInputs
    from relforge.engine.layout import ImageFacts
    from relforge.oci.store import ImageStore
    from relforge.stages.build import BuildResult


def with_others(built: BuildResult, job: Job[BuildInputs], ctx: StageContext) -> BuildResult:
    """``built`` with the images of ``inputs.also`` in its layout, under the index of them all;
    unchanged where there are none.

    Raises RelforgeError: SOURCE when an image is not there, or is for another architecture than was
    said; PUBLISH when its place refuses. Raises Cancelled.
    """
    from relforge.engine.layout import describe
    from relforge.oci.layout_store import LayoutStore
    from relforge.oci.merging import merge
    from relforge.stages.build import PlatformImage

    others = job.inputs.also
    if not others:
        return built
    whole = LayoutStore(built.layout)
    sources: list[tuple[ImageStore, str]] = [(whole, built.image_digest)]
    for one in others:
        sources.append((_opened(one, job.env.site, ctx.line, ctx.cancel), one.digest))
    merge(sources, whole, in_order=True, line=ctx.line, cancel=ctx.cancel)
    facts = describe(built.layout)
    for one, found in zip(others, facts.others, strict=True):
        _require(one, found)
    places = (None, *(one.reference for one in others))
    return built.model_copy(
        update={
            "image_digest": facts.digest,
            "platforms": tuple(
                PlatformImage(
                    platform=f"{image.os}/{image.architecture}",
                    digest=image.digest,
                    config_digest=image.config_digest,
                    compressed_bytes=image.size_bytes,
                    place=place,
                )
                for image, place in zip(facts.each, places, strict=True)
            ),
        }
    )


def _opened(
    one: OtherImage, site: Site, line: Callable[[str], None], cancel: CancelToken | None
) -> ImageStore:
    from relforge.oci.opening import open_store

    here = site.images.get(one.reference)
    place = str(here) if here is not None else one.reference
    store, _ = open_store(place, site, cancel=cancel)
    line(f"{one.architecture}: {one.digest} of {store.name}")
    manifest = store.manifest(one.digest)
    if manifest is None or manifest.is_index:
        raise RelforgeError(
            f"the image for {one.architecture} is not there"
            if manifest is None
            else f"the image for {one.architecture} is for several architectures itself",
            code=ExitCode.SOURCE,
            where=f"{store.name}@{one.digest}",
            why="its place has no such digest"
            if manifest is None
            else "build.also names one image for each architecture",
            hint="build and release it on a host of that architecture, and correct build.also",
        )
    return store


def _require(one: OtherImage, found: ImageFacts) -> None:
    if (found.os, found.architecture) == ("linux", one.architecture):
        return
    raise RelforgeError(
        f"this is no image for linux/{one.architecture}",
        code=ExitCode.SOURCE,
        where=f"{one.reference}@{one.digest}",
        why=f"it is for {found.os}/{found.architecture}",
        hint="correct build.also in the release's manifest",
    )
