"""``relforge plan``."""

from __future__ import annotations

import sys

import typer

from relforge.cli.common import (
    AllOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    print_json,
    select,
    workplace,
)
from relforge.evidence.store import Store
from relforge.pipeline import STAGES
from relforge.plan import PlanOutput, make_plan, subject

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_MARKS = {"run": ">", "reuse": "=", "skip": "·"}


@app.command()
def plan(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    model: ModelOption = None,
    all_: AllOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Shows what would run, with the reason for each stage. Runs and writes nothing."""
    place = workplace(project, site)
    chosen = select(place.project, devices=device, releases=release, models=model, everything=all_)
    store = Store(place.home)
    plans = [make_plan(subject(place.project, r, place.site), STAGES, store) for r in chosen]
    if json_:
        print_json(PlanOutput(releases=tuple(p.output for p in plans)).model_dump(mode="json"))
        return
    for planned in plans:
        sys.stdout.write(f"{planned.name}\n")
        for stage in planned.stages:
            key = stage.key[:12] if stage.key else ""
            sys.stdout.write(
                f"  {_MARKS[stage.status]} {stage.name:<10} {stage.status:<6} {key:<13}"
                f"{stage.because}\n"
            )
