"""``relforge rebuild`` of a release: plan, build again, compare."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from relforge.building.inputs import BuildInputs
from relforge.cancel import CancelToken
from relforge.cli.common import Workplace, to_stderr
from relforge.cli.passphrases import ask_for_passphrases
from relforge.engine.layout import replace_folder
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.executor.local import LocalExecutor
from relforge.files import cannot_write
from relforge.manifest.release import Release
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.publishing.published import CONTENTS
from relforge.rebuilding.again import Rebuild, RebuildResult, rebuild_stages
from relforge.rebuilding.compare import compare_images
from relforge.rebuilding.image import from_layout
from relforge.rebuilding.model import Comparison, RebuildOutput
from relforge.rebuilding.recorded import Recorded, by_name, in_folder, in_store
from relforge.running.runner import Runner
from relforge.ui.console import make_listener
from relforge.workarea import work_area


def rebuild_release(
    place: Workplace,
    release: Release,
    *,
    against: str | None,
    keep: bool,
    command: str,
    cancel: CancelToken,
) -> RebuildOutput:
    """Builds again and compares; ``keep`` leaves the new layout in the run's folder.

    Raises RelforgeError of any stage, (USAGE) when there has to be something to compare with and
    is not; Cancelled.
    """
    with work_area(place.home, "rebuild") as area:
        stages = rebuild_stages(area / "image")
        planned = make_plan(subject(place.project, release, place.site), stages, Store(place.home))
        # Before anything is built: what is missing, or wrongly named, is told at once.
        recorded = _recorded(place, planned, against, cancel)
        if recorded is None and not keep:
            raise _nothing_recorded(place, release.name)
        ask_for_passphrases(planned, place)
        listener = make_listener()
        runner = Runner(
            home=place.home,
            executor=LocalExecutor(),
            site=place.site,
            dist=place.dist,
            cancel=cancel,
            listeners=(listener,),
        )
        started = time.monotonic()
        try:
            outcome = runner.run(planned, stages, command)
        finally:
            listener.close()
        if outcome.error is not None:
            raise outcome.error
        result = cast(RebuildResult, outcome.results["rebuild"])
        compared = _compared(result.layout, recorded, cancel) if recorded else None
        return RebuildOutput(
            release=release.name,
            image_digest=result.image_digest,
            compared=compared,
            layout=str(_kept(result.layout, outcome.run_dir / "image")) if keep else None,
            seconds=round(time.monotonic() - started, 3),
            notes=_notes(recorded, result),
        )


def _recorded(
    place: Workplace, planned: ReleasePlan, against: str | None, cancel: CancelToken
) -> Recorded | None:
    inputs = cast(BuildInputs, planned.inputs["rebuild"])
    key = Rebuild.build_key(inputs)
    store = Store(place.home)
    if against is not None:
        return by_name(against, inputs, store, key, site=place.site, cancel=cancel)
    if (known := in_store(store, key)) is not None:
        return known
    published = place.dist / planned.name
    return in_folder(published, inputs) if (published / CONTENTS).is_file() else None


def _compared(layout: Path, recorded: Recorded, cancel: CancelToken) -> Comparison:
    rebuilt = from_layout(layout)
    if recorded.image is not None:
        return compare_images(recorded.image, rebuilt, line=to_stderr, cancel=cancel)
    return Comparison(
        identical=recorded.side.digest == rebuilt.digest,
        first=recorded.side,
        second=rebuilt.side,
        layers_compared=False,
    )


def _notes(recorded: Recorded | None, result: RebuildResult) -> tuple[str, ...]:
    if recorded is None:
        return ()
    notes = list(recorded.notes)
    if recorded.base_digest is not None and recorded.base_digest != result.base_digest:
        notes.append(
            f"the base image is another one: {recorded.base_digest} → {result.base_digest}"
            f" ({result.base_how})"
        )
    return tuple(notes)


def _kept(layout: Path, target: Path) -> Path:
    try:
        replace_folder(layout, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def _nothing_recorded(place: Workplace, name: str) -> RelforgeError:
    return RelforgeError(
        "nothing is recorded to compare with",
        code=ExitCode.USAGE,
        where=f"release {name}",
        why=f"neither {place.home / 'store'} has a result of these inputs, "
        f"nor is there a published folder {place.dist / name}",
        hint="name a published folder with --against, or leave out --check to build it once more "
        "and keep the result",
    )
