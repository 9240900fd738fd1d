"""Runs as a person reads them: rows, one run, differences of two."""

from __future__ import annotations

import time
from collections.abc import Iterable

from relforge.history.comparing import ReleaseDiff, RunsDiff, StageDiff
from relforge.history.listing import RunRow
from relforge.history.showing import RunShown, ShownRelease, ShownStage, Wait
from relforge.ui.text import duration, several

_ORDER = ("done", "failed", "running", "waiting", "interrupted", "killed")
_MARKS = {"ran": "✓", "reused": "=", "skipped": "·", "failed": "✗"}

_TextChange = tuple[str, tuple[str, ...]]
"""Its phrase, and the lines that differ."""


def when(time_s: float) -> str:
    """``2026-11-29 12:19Z``."""
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(time_s))


def table(rows: Iterable[RunRow]) -> str:
    """One line each."""
    return "".join(
        f"{one.id}  {one.state:<11}  {when(one.started_s)}{duration(one.seconds):>13}  "
        f"{'-' if one.exit_code is None else one.exit_code:>4}  {_what(one)}\n"
        for one in rows
    )


def _what(row: RunRow) -> str:
    if len(row.releases) == 1:
        return row.releases[0]
    counts = ", ".join(f"{row.counts[s]} {s}" for s in _ORDER if s in row.counts)
    return f"{len(row.releases)} releases" + (f": {counts}" if counts else "")


def run(shown: RunShown, *, whole: bool) -> str:
    """A run; ``whole``: every stage of its releases, else those of the ones that failed."""
    ended = shown.ended_s or time.time()
    code = "" if shown.exit_code is None else f"  exit code {shown.exit_code}"
    lines = [
        f"{shown.id}  {shown.state}  {duration(ended - shown.started_s)}{code}",
        shown.command,
        shown.folder,
        f"began {when(shown.started_s)}"
        + (f", attempt {shown.attempt} at {when(shown.attempts[-1])}" if _resumed(shown) else ""),
    ]
    width = max((len(one.release) for one in shown.releases), default=0)
    for one in shown.releases:
        if len(shown.releases) > 1 or whole:
            lines.append(_release(one, width))
        if whole or len(shown.releases) == 1 or one.failed is not None:
            lines += _stages(one)
    if shown.error:
        lines.append(shown.error)
    lines += _causes(shown)
    if shown.next:
        lines.append(f"next: {shown.next}")
    return "".join(f"{line}\n" for line in lines)


def _causes(shown: RunShown) -> list[str]:
    """Why releases failed; of one cause, which each of them has in a log of its own, the first."""
    causes: dict[str, list[ShownRelease]] = {}
    for one in shown.releases:
        if one.error and one.error != shown.error:
            rows = [row for row in one.error.splitlines() if not row.startswith("log: ")]
            causes.setdefault("\n".join(rows), []).append(one)
    return [
        f"{several([one.release for one in alike])}: {alike[0].error}" for alike in causes.values()
    ]


def _resumed(shown: RunShown) -> bool:
    return shown.attempt > 1 and bool(shown.attempts)


def _release(one: ShownRelease, width: int) -> str:
    stage = one.failed.name if one.failed else one.at_work
    at = f"  at {stage}" if stage and one.state != "done" else ""
    return f"{one.release:<{width}}  {one.state:<11}{duration(one.seconds):>12}{at}"


def _stages(one: ShownRelease) -> list[str]:
    rows: list[str] = []
    for stage in one.stages:
        rows += _stage(stage)
    for name, waits in one.waits.items():
        rows += [f"  - {name:<10} waits {wait.why}" for wait in waits[-1:]]
    if one.at_work is not None:
        rows.append(f"  > {one.at_work:<10} at work" + (" when it was killed" * _gone(one)))
    return rows


def _gone(one: ShownRelease) -> bool:
    return one.state == "killed"


def _stage(stage: ShownStage) -> list[str]:
    verdict = f"[{stage.verdict}] " if stage.verdict else ""
    shared = f" (with {stage.shared_with})" if stage.shared_with else ""
    host = f" (on {stage.host})" if stage.host else ""
    rows = [
        f"  {_MARKS[stage.status]} {stage.name:<10} {stage.status:<8}{duration(stage.seconds):>12}"
        f"  {verdict}{stage.detail}{shared}{host}"
    ]
    if stage.log is not None:
        rows.append(f"{'':14}{stage.log}")
    rows += [f"{'':14}waited {wait}" for wait in _told(stage.waits)]
    rows += [
        f"{'':14}tried again, {again.attempt} of {again.of}: {again.why}" for again in stage.retries
    ]
    return rows


def _told(waits: Iterable[Wait]) -> list[str]:
    """Each reason once."""
    return list(dict.fromkeys(wait.why for wait in waits))


def difference(found: RunsDiff) -> str:
    """What differs, release by release; times where the stage itself worked in both.

    Of the same change in several releases the lines stand with the first.
    """
    told: dict[_TextChange, str] = {}
    lines = [
        f"{found.before}  {found.states[0]}  {_seconds(found.seconds[0])}",
        f"{found.after}  {found.states[1]}  {_seconds(found.seconds[1])}",
    ]
    lines += [f"- {name}: only in {found.before}" for name in found.only_before]
    lines += [f"+ {name}: only in {found.after}" for name in found.only_after]
    for one in found.releases:
        if one.differs:
            lines += _release_diff(one, told)
        else:
            took = f"{duration(one.seconds[0])} -> {duration(one.seconds[1])}"
            lines.append(f"= {one.release}: the same, in {took}")
    return "".join(f"{line}\n" for line in lines)


def _seconds(seconds: float | None) -> str:
    return "at work" if seconds is None else duration(seconds)


def _release_diff(one: ReleaseDiff, told: dict[_TextChange, str]) -> list[str]:
    lines = [f"~ {one.release}: {_arrow(*one.states)}"]
    if one.digests[0] != one.digests[1]:
        lines.append(f"    image      {one.digests[0] or 'none'} -> {one.digests[1] or 'none'}")
    for stage in one.stages:
        if stage.differs:
            lines += _stage_diff(stage, one.release, told)
    return lines


def _stage_diff(stage: StageDiff, release: str, told: dict[_TextChange, str]) -> list[str]:
    before, after = stage.before, stage.after
    if before is None or after is None:
        there = after or before
        assert there is not None
        sign, side = ("+", "second") if before is None else ("-", "first")
        return [f"  {sign} {stage.stage:<10} {there.status} in the {side} run only: {there.detail}"]
    words = [_arrow(before.status, after.status)]
    if before.verdict != after.verdict:
        words.append(f"[{before.verdict}] -> [{after.verdict}]")
    if before.status == after.status == "ran":
        words.append(f"{duration(before.seconds)} -> {duration(after.seconds)}")
    if before.detail != after.detail:
        words.append(f"{before.detail} -> {after.detail}")
    rows = [f"  ~ {stage.stage:<10} {', '.join(words)}"]
    for change in stage.changes:
        # That an earlier stage has another key says no more than its own lines do.
        follows = f"as {change.stage} is another" if change.stage else change.phrase
        first = told.setdefault((follows, change.diff), release) if change.diff else release
        if first != release:
            rows.append(f"      {follows}: as for {first}")
            continue
        rows.append(f"      {follows}")
        rows += [f"        {line}" for line in change.diff]
    if stage.unknown:
        rows.append(f"      {stage.unknown}")
    return rows


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"
