"""``relforge runs gc``."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    interruptible,
    print_json,
    to_stderr,
    workplace,
)
from relforge.errors import RelforgeError

if TYPE_CHECKING:
    from relforge.collecting.model import GcOutput
    from relforge.collecting.of_engine import OfEngine
    from relforge.manifest.site import Site

_SHOWN = 20


def gc(
    older_than: Annotated[
        str,
        typer.Option("--older-than", help="What was not used for that long may go.", metavar="AGE"),
    ] = "30d",
    keep_last: Annotated[
        int,
        typer.Option("--keep-last", help="Newest runs of each release that stay.", min=0),
    ] = 3,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            help="Then more goes, whatever its age, until the home takes no more: 50GB.",
            metavar="SIZE",
        ),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Weights, too, that nothing used for that long.")
    ] = False,
    engine: Annotated[
        bool,
        typer.Option("--engine/--no-engine", help="Also images and containers in the engine."),
    ] = True,
    build_cache: Annotated[
        bool,
        typer.Option(
            "--build-cache/--no-build-cache", help="Also relforge's records of BuildKit's cache."
        ),
    ] = True,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for whoever uses the home, instead of failing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")
    ] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Deletes what nothing needs any more: runs, results, fetched files, images, caches.

    Never what a kept run, a run at work, a published release or the newest plan of a release needs;
    docs/runs.md has the rules. Nobody else may use the home meanwhile: --wait waits.
    """
    from relforge.amounts import age_s, size_bytes
    from relforge.collecting.collector import Collector
    from relforge.collecting.model import Wanted
    from relforge.in_use import alone

    wanted = Wanted(
        older_than_s=age_s(older_than, "--older-than"),
        keep_last=keep_last,
        max_bytes=None if max_size is None else size_bytes(max_size, "--max-size"),
        weights=weights,
        dry_run=dry_run,
    )
    place = workplace(project, site)
    with interruptible() as cancel:
        collector = Collector(
            place.home,
            wanted,
            site=place.site,
            root=place.project.root,
            dist=place.dist,
            engine=_engine(place.site, cache=build_cache) if engine else None,
            line=to_stderr,
            cancel=cancel,
        )
        if dry_run:
            output = collector.run()  # it changes nothing: whoever works is not disturbed
        else:
            purpose = "collecting garbage"
            with alone(place.home, purpose, wait=wait, on_wait=to_stderr, cancel=cancel):
                output = collector.run()
    if json_:
        print_json(output.model_dump(mode="json"))
    else:
        sys.stdout.write(_text(output))


def _engine(site: Site, *, cache: bool) -> OfEngine | None:
    """The engine where it answers; else a line that says that it was left alone."""
    from relforge.collecting.of_engine import OfEngine
    from relforge.engine.client import connect

    try:
        connect(site.engine).close()
        return OfEngine(site.engine, line=to_stderr, cache=cache)
    except RelforgeError as error:
        to_stderr(f"the engine is left alone: {error.what} ({error.why or error.where})")
        return None


def _text(output: GcOutput) -> str:
    from relforge.collecting.model import YOUNGER
    from relforge.ui.history import when
    from relforge.ui.text import size

    lines = []
    shown: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for one in output.gone:
        shown[one.kind] += 1
        sizes[one.kind] += one.bytes
        if output.dry_run or shown[one.kind] <= _SHOWN:
            used = f"last used {when(one.last_used_s)}; " if one.last_used_s else ""
            lines.append(f"{one.kind:<12} {one.name:<32} {size(one.bytes):>9}  {used}{one.why}")
    if lines:
        lines.append("")
    would = "would go" if output.dry_run else "went"
    lines += [f"{would}: {shown[kind]} x {kind}, {size(sizes[kind])}" for kind in shown]
    lines += [f"kept: {one.count} x {one.kind}, {size(one.bytes)}" for one in output.kept]
    lines += [
        f"kept: run {one.id}: {one.why}"
        for one in output.kept_runs
        if output.dry_run and one.why != YOUNGER
    ]
    lines += [
        f"not touched: {one.what}" + (f", {size(one.bytes)}" if one.bytes else "") + f": {one.why}"
        for one in output.untouched
    ]
    lines += [f"warning: {text}" for text in output.warnings]
    freed = "would be freed" if output.dry_run else "freed"
    lines.append(f"{size(output.freed_bytes)} {freed}; the home takes {size(output.home_bytes)}")
    return "".join(f"{line}\n" for line in lines)
