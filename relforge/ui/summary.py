"""The closing lines of a run: image, size, digest, card, and the next command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relforge.errors import RelforgeError
from relforge.evidence.runs import Run
from relforge.plan import ReleasePlan
from relforge.running.walk import Outcome
from relforge.ui.text import duration, size


def text(outcome: Outcome, plan: ReleasePlan) -> str:
    """A few aligned lines; what a run did not reach is left out."""
    from relforge.stages.build import BuildResult
    from relforge.stages.card import CardResult
    from relforge.stages.publish import PublishResult

    entry = outcome.entry
    worked = [s for s in entry.stages if s.status == "ran"]
    took = duration(entry.seconds)
    reused = sum(s.status == "reused" for s in entry.stages)
    rows = [
        ("release", f"{entry.release}: {len(worked)} stages ran, {reused} reused, in {took}"),
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


def table(
    names: Sequence[str],
    outcomes: Sequence[Outcome],
    not_planned: Mapping[str, RelforgeError],
    run: Run | None,
) -> str:
    """Several releases: one line each, with the cause and what to type where one failed."""
    from relforge.stages.build import BuildResult

    by_name = {one.release: one for one in outcomes}
    width = max(map(len, names), default=0)
    rows = []
    for name in names:
        outcome, error = by_name.get(name), not_planned.get(name)
        if outcome is None:
            what = error.what if error else "not begun"
            rows.append(("✗", name, "not planned", what, error.hint if error else None))
            continue
        entry = outcome.entry
        mark = "✓" if entry.state == "done" else "✗"
        stage = next((s.name for s in entry.stages if s.status == "failed"), None)
        detail = duration(entry.seconds)
        if entry.state == "done":
            build = outcome.results.get("build")
            detail += f"  {build.image_digest}" if isinstance(build, BuildResult) else ""
            rows.append((mark, name, entry.state, detail, None))
            continue
        cause = (f"{stage}: " if stage else "") + _cause(outcome)
        hint = outcome.error.hint.splitlines()[0] if outcome.error and outcome.error.hint else None
        rows.append((mark, name, entry.state, cause, hint))
    shown = []
    for mark, name, state, text, hint in rows:
        shown.append(f"  {mark} {name:<{width}}  {state:<11}  {text}")
        if hint:
            shown.append(f"    {'':<{width}}  next: {hint}")
    done = sum(row[0] == "✓" for row in rows)
    shown.append(f"  {done} of {len(rows)} releases are done")
    if run is not None and done < len(rows):
        shown.append(f"  to go on with what is left: {run.asked.resuming(run.id)}")
    return "".join(f"{line}\n" for line in shown)


def _cause(outcome: Outcome) -> str:
    """One line."""
    error = outcome.error
    if error is None:
        return (outcome.entry.error or outcome.entry.state).splitlines()[0]
    why = (error.why or "").strip().splitlines()
    return f"{error.what}: {why[0]}" if why else error.what
