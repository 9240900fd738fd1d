"""The closing lines of a run: image, size, digest, card, and the next command."""

from __future__ import annotations

from relforge.plan import ReleasePlan
from relforge.runner import Outcome
from relforge.stages.build import BuildResult
from relforge.stages.card import CardResult
from relforge.stages.publish import PublishResult
from relforge.ui.text import duration, size


def text(outcome: Outcome, plan: ReleasePlan) -> str:
    """A few aligned lines; what a run did not reach is left out."""
    run = outcome.run
    worked = [s for s in run.stages if s.status == "ran"]
    took = duration((run.ended_s or run.started_s) - run.started_s)
    reused = sum(s.status == "reused" for s in run.stages)
    rows = [
        ("release", f"{run.release}: {len(worked)} stages ran, {reused} reused, in {took}"),
    ]
    build = outcome.results.get("build")
    if isinstance(build, BuildResult):
        rows.append(("image", build.image_name))
        rows.append(("digest", build.image_digest))
        rows.append(("size", f"{size(build.compressed_bytes)} compressed"))
    card = outcome.results.get("card")
    publish = outcome.results.get("publish")
    if isinstance(publish, PublishResult):
        rows.append(("folder", str(publish.folder)))
        rows.append(("card", str(publish.folder / "README.md")))
    elif isinstance(card, CardResult):
        rows.append(("card", str(card.path)))
    rows.append(("log", str(outcome.run_dir)))
    rows.append(("next", _next_command(plan, outcome)))
    return "".join(f"  {label:<8} {value}\n" for label, value in rows)


def _next_command(plan: ReleasePlan, outcome: Outcome) -> str:
    name = plan.name
    if "publish" in outcome.results:
        return f"relforge release --release {name} --registry HOST/NAME"
    if "build" in outcome.results:
        return f"relforge release --release {name}"
    return f"relforge build --release {name}"
