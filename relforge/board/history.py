"""The runs of every release, newest first, as a home has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from relforge.board.model import Attempt, StageRow
from relforge.evidence.reading_runs import as_told, list_runs, read_run
from relforge.evidence.runs import ReleaseRun, Run

STAGES_KEPT = 20
"""Of so many runs of a release the page has every stage; of older ones their verdicts."""
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


def read_history(home: Path) -> dict[str, list[Attempt]]:
    """By release. Folders without a readable ``run.json`` are passed over."""
    found: dict[str, list[Attempt]] = {}
    for run in list_runs(home):
        for release, attempt in attempts(run, home / "runs" / run.id):
            known = found.setdefault(release, [])
            if len(known) >= STAGES_KEPT:
                attempt = attempt.model_copy(update={"stages": ()})
            known.append(attempt)
    return found


def with_run(history: dict[str, list[Attempt]], folder: Path) -> list[str]:
    """Puts a run, as its folder has it now, into a history; returns the releases that it has."""
    run = read_run(folder)
    if run is None:
        return []
    found = dict(attempts(run, folder))
    for release, attempt in found.items():
        others = [one for one in history.get(release, ()) if one.run != run.id]
        history[release] = sorted((attempt, *others), key=lambda one: one.run, reverse=True)
    return list(found)


def attempts(run: Run, folder: Path) -> Iterator[tuple[str, Attempt]]:
    """What a run did for each of its releases. Those that were never begun are left out."""
    at_work: dict[str, str] = {}
    if run.state in ("running", "killed"):
        run, at_work = as_told(run, folder)
    for entry in run.releases:
        if entry.state == "waiting" and not entry.stages and run.state != "running":
            continue
        yield entry.release, _attempt(run, entry, folder, at_work.get(entry.release))


def _attempt(run: Run, entry: ReleaseRun, folder: Path, at: str | None) -> Attempt:
    alone = len(run.releases) == 1
    state = entry.state
    if run.state == "killed" and state in ("waiting", "running"):
        state = "killed"
    error = entry.error
    if error is None and (alone or state == "killed"):
        error = f"killed during {at}" if state == "killed" and at else run.error
    seconds = entry.seconds or (
        (run.ended_s - run.started_s)
        if run.ended_s is not None and alone
        else sum(stage.seconds for stage in entry.stages)
    )
    return Attempt(
        run=run.id,
        command=run.command,
        started_s=run.started_s,
        ended_s=run.ended_s,
        seconds=round(seconds, 3),
        state=state,
        exit_code=entry.exit_code,
        error=error,
        next=entry.next,
        digest=_digest(entry, folder),
        verdicts={one.name: one.verdict for one in entry.stages if one.verdict is not None},
        stages=tuple(
            StageRow(
                name=one.name,
                status=one.status,
                seconds=one.seconds,
                verdict=one.verdict,
                detail=one.detail,
                shared_with=one.shared_with,
            )
            for one in entry.stages
        ),
        at=at,
    )


def _digest(entry: ReleaseRun, folder: Path) -> str | None:
    """Of the image that the run had, from the result of its build."""
    if not any(one.name == "build" and one.status in ("ran", "reused") for one in entry.stages):
        return None
    for place in (folder / entry.release / "results", folder / "results"):
        try:
            digest = json.loads((place / "build.json").read_bytes())["image_digest"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(digest, str) and _DIGEST.match(digest):
            return digest
    return None
