"""``relforge plan``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from relforge import redact
from relforge.cli.common import (
    AllOption,
    ChangedSinceOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    Workplace,
    chosen_names,
    to_stderr,
    workplace,
)
from relforge.cli.reporting import SummaryOption
from relforge.errors import RelforgeError
from relforge.evidence.store import Store
from relforge.executor.forked import in_slices, rare_collections
from relforge.explaining import Explanation
from relforge.pipeline import STAGES
from relforge.plan import NotPlanned, PlannedRelease, make_plan, subject
from relforge.ui.text import error as error_text
from relforge.ui.text import size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_MARKS = {"run": ">", "reuse": "=", "skip": "·"}

MatrixOption = Annotated[
    bool, typer.Option("--matrix", help="Only the jobs of a CI and their runners, as one line.")
]
ExplainOption = Annotated[
    bool,
    typer.Option("--explain", help="Also what each stage does, needs, and what changed for it."),
]


@app.command()
def plan(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    changed_since: ChangedSinceOption = None,
    matrix: MatrixOption = False,
    explain: ExplainOption = False,
    json_: JsonOption = False,
    summary: SummaryOption = None,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Shows what would run, with the reason for each stage. Runs and writes nothing.

    Of several releases, one that cannot be planned does not stop the others; the exit code is that
    of the first such one.
    """
    place = workplace(project, site)
    names = chosen_names(
        place,
        devices=device,
        releases=release,
        models=model,
        everything=all_,
        changed_since=changed_since,
    )
    if matrix:
        _matrix(place, names, summary)
        return
    failed: _Failed = []
    if len(names) == 1:
        shown = iter([_plan(place, Store(place.home), names[0], explain, json_)])
    else:
        shown = _several(place, names, explain, json_, failed)
    if json_:
        _print_json(shown, failed)
    else:
        sys.stdout.writelines(shown)
    for _name, error in failed:
        sys.stderr.write(error_text(error) + "\n")
    if failed:
        raise typer.Exit(int(failed[0][1].code))


def _matrix(place: Workplace, names: Sequence[str], summary: Path | None) -> None:
    from relforge.ci.matrix import matrix_of
    from relforge.cli.reporting import write_summary

    found, failed = matrix_of(place.project, place.site, names)
    for one in found.left_out:
        to_stderr(f"{one.release}: no job: {one.reason}")
    for _name, error in failed:
        sys.stderr.write(error_text(error) + "\n")
    write_summary(found, summary)
    sys.stdout.write(redact.text(found.model_dump_json()) + "\n")
    if failed:
        raise typer.Exit(int(failed[0][1].code))


_Failed = list[tuple[str, RelforgeError]]


def _several(
    place: Workplace, names: list[str], explain: bool, json_: bool, failed: _Failed
) -> Iterator[str]:
    """What is printed of each; ``failed`` gets those that cannot be planned."""
    store = Store(place.home)

    def work(part: Sequence[str]) -> tuple[list[str], _Failed]:
        shown: list[str] = []
        not_planned: _Failed = []
        for name in part:
            try:
                shown.append(_plan(place, store, name, explain, json_))
            except RelforgeError as error:
                not_planned.append((name, error))
        return shown, not_planned

    # What the first one loads, templates among it, the processes of the others share.
    first = work(names[:1])
    with rare_collections():
        for shown, not_planned in chain([first], in_slices(names[1:], work)):
            failed += not_planned
            yield from shown


def _plan(place: Workplace, store: Store, name: str, explain: bool, json_: bool) -> str:
    """One release's plan as text at once: those of thousands are not kept."""
    found = subject(place.project, place.project.release(name), place.site)
    planned = make_plan(found, STAGES, store, explain=explain).output
    return planned.model_dump_json(indent=2) if json_ else _text(planned)


def _print_json(releases: Iterator[str], failed: _Failed) -> None:
    """The JSON of ``PlanOutput``, laid out as that of the other verbs, as it comes."""

    def items(key: str, texts: Iterator[str], end: str) -> None:
        empty = True
        sys.stdout.write(f'\n  "{key}": [')
        for text in texts:
            sys.stdout.write(("" if empty else ",") + "\n    " + text.replace("\n", "\n    "))
            empty = False
        sys.stdout.write(("]" if empty else "\n  ]") + end)

    sys.stdout.write("{")
    items("releases", releases, ",")
    # Complete only now: the releases were planned while they were written.
    not_planned = (NotPlanned.of(*error).model_dump_json(indent=2) for error in failed)
    items("not_planned", not_planned, "\n}\n")


def _text(planned: PlannedRelease) -> str:
    lines = [planned.name]
    for stage in planned.stages:
        key = stage.key[:12] if stage.key else ""
        mark = _MARKS[stage.status]
        lines.append(f"  {mark} {stage.name:<10} {stage.status:<6} {key:<13}{stage.because}")
        if stage.explanation is not None and stage.status == "run":
            lines.extend(f"      {line}" for line in _explained(stage.explanation))
    if planned.unresolved:
        lines.append(f"  ! cannot be built yet; not resolved: {'; '.join(planned.unresolved)}")
    return "\n".join(lines) + "\n"


def _explained(told: Explanation) -> Iterator[str]:
    needs = told.needs
    wants = [
        *(f"the results of {', '.join(told.reads)}" for _ in told.reads[:1]),
        *(["a container engine"] if needs.engine else []),
        *([f"device {needs.device}"] if needs.device else []),
        *([f"{size(needs.memory_bytes)} of memory"] if needs.memory_bytes else []),
        *([f"{size(needs.disk_bytes)} of disk"] if needs.disk_bytes else []),
        *([f"{size(needs.engine_disk_bytes)} in the engine"] if needs.engine_disk_bytes else []),
        *told.secrets,
    ]
    yield f"does: {told.does}" + (f"; needs {', '.join(wants)}" if wants else "")
    if told.compared_with is not None:
        yield f"compared with the last result, {told.compared_with[:12]}:"
    for change in told.changes:
        because = f" (stage {change.stage}, see there)" if change.stage else ""
        yield f"  {change.phrase}{because}"
        yield from (f"    {line}" for line in change.diff)
