"""Trees on disk for a build: checked out from the store, patched where the release says so.

A sealed patch set is opened for this and nothing of it outlives the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relforge.frozen import Frozen
from relforge.stage import Job, StageContext


class TreeRequest(Frozen):
    """A tree wanted in a folder of the source's name."""

    name: str
    tree: str


@contextmanager
def checked_out(
    requests: Sequence[TreeRequest], *, job: Job[Any], epoch: int, ctx: StageContext
) -> Iterator[Path]:
    """A private folder with one subfolder per request; gone when the block is left.

    Raises RelforgeError (SOURCE) when a patch set does not give the tree that was asked for.
    """
    from relforge.patching.tree.making import materialise
    from relforge.sources.api import store_of
    from relforge.stages.unpatch import UnpatchResult, recipe_of
    from relforge.workarea import work_area

    env = job.env
    unpatch = job.upstream.get("unpatch")
    patched = {s.source: s for s in unpatch.sets} if isinstance(unpatch, UnpatchResult) else {}
    git = store_of(env.home)
    with work_area(env.home, "build") as area:
        for request in requests:
            ctx.cancel.check()
            dest = area / request.name
            known = patched.get(request.name)
            if known is None:
                git.checkout(request.tree, dest, epoch=epoch)
                continue
            materialise(
                recipe_of(known, env), dest=dest, home=env.home, epoch=epoch, cancel=ctx.cancel
            )
        yield area
