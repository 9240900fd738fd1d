"""The named contexts of a build, and what is taken out of BuildKit's cache after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from relforge.building import ALWAYS_THERE, TOOLS
from relforge.engine import sealed_cache
from relforge.manifest.project import Project
from relforge.stage import Job, StageContext
from relforge.stages.sources import SourcesResult
from relforge.trees import TreeRequest, checked_out

if TYPE_CHECKING:
    from relforge.building.inputs import BuildInputs


@contextmanager
def opened(job: Job[BuildInputs], ctx: StageContext) -> Iterator[dict[str, Path]]:
    """The named build contexts; patched trees exist only while this is open."""
    sources = cast(SourcesResult, job.upstream["sources"])
    files = {tree.name: tree.file for tree in sources.trees}
    project = Project(job.env.project_roots)
    with ExitStack() as stack:
        area = stack.enter_context(
            checked_out(
                [TreeRequest(name=n, tree=t) for n, t in job.inputs.trees.items()],
                job=job,
                epoch=job.inputs.source_date_epoch,
                ctx=ctx,
            )
        )
        contexts = {name: area / name for name in job.inputs.trees}
        for name in job.inputs.files:
            file = files[name]
            assert file is not None
            # The folder of the file store holds this one file, under its own name.
            contexts[name] = file.parent
        own = (sources.build_wheels, project.path(TOOLS), sources.wheels)
        yield contexts | dict(zip(ALWAYS_THERE, own, strict=True))


def pruned_afterwards(job: Job[BuildInputs], ctx: StageContext) -> AbstractContextManager[None]:
    """Takes sealed sources out of BuildKit's cache; what the image ships anyway may stay."""
    inputs = job.inputs
    kept_back = set(inputs.sealed_sources) & set(inputs.unshipped)
    return sealed_cache.pruned_afterwards(
        inputs.sealed_sources,
        steps=tuple(f"target=/src/{name}" for name in sorted(kept_back)),
        home=job.env.home,
        site=job.env.site.engine,
        line=ctx.line,
    )
