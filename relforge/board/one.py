"""One release of the board: what its manifests plan, its records and its runs, put together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.board.changes import changes_between
from relforge.board.charts import Chart
from relforge.board.detail import place_of, recorded
from relforge.board.freshness import differences
from relforge.board.judging import PlanFacts, RecordFacts, judge, live_of
from relforge.board.model import Attempt, Changes, Details, Entry, Named, Recorded
from relforge.board.records import Found, Records, read
from relforge.card.model import Said
from relforge.errors import RelforgeError
from relforge.evidence.store import Store
from relforge.frozen import sha256_hex
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.notes.record import Record, record_of
from relforge.pipeline import STAGES
from relforge.plan import make_plan, subject

_REASONS_IN_INDEX = 3
_UNKNOWN = "?"


@dataclass(frozen=True)
class Made:
    """One release: its line in the index, its details, the charts that they name."""

    entry: Entry
    details: Details
    charts: tuple[Chart, ...] = ()
    problems: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Read:
    """A record that could be read, as it is and as notes read it."""

    found: Found
    raw: Mapping[str, Any]
    record: Record


@dataclass(frozen=True)
class Maker:
    """Makes releases of one project. ``store`` has nothing: only keys are asked of a plan."""

    project: Project
    site: Site
    store: Store
    page: Path | None
    records: Records
    runs: Mapping[str, Sequence[Attempt]]

    def make(self, name: str) -> Made:
        """A release that the project has, or a record, or both."""
        problems: list[Said] = []
        known = self.records.by_release.get(name, ())
        current = known[0] if known and known[0].current else None
        newest = self._read(current, problems) if current is not None else None
        attempts = self.runs.get(name, ())
        manifest, plan = self._plan(name, newest)
        facts = None
        if newest is not None:
            told = newest.record
            facts = RecordFacts(told.verdicts, told.skipped, newest.found.created_s)
        judged = judge(name, facts, plan, attempts)
        shown: Recorded | None = None
        charts: tuple[Chart, ...] = ()
        if newest is not None:
            shown, charts = recorded(
                newest.raw,
                newest.record,
                place_of(newest.found.folder, self.page),
                self._changes(newest, known, problems),
            )
        why = judged.why if newest is not None else (*judged.why, *problems)
        entry = Entry(
            release=name,
            device=manifest.device if manifest else _of(newest, "device"),
            model=manifest.model if manifest else _of(newest, "model"),
            variant=manifest.variant if manifest else None,
            engine=manifest.engine if manifest else None,
            title=manifest.title if manifest else "",
            state=judged.state,
            why=why[:_REASONS_IN_INDEX],
            next=judged.next,
            file=f"releases/{sha256_hex(name.encode())[:20]}.js",
            created_s=newest.found.created_s if newest else None,
            digest=newest.record.image_digest if newest else None,
            run_s=attempts[0].started_s if attempts else None,
            runs=len(attempts),
            live=live_of(attempts),
        )
        details = Details(
            release=name,
            record=shown,
            stale=plan.stale,
            history=tuple(attempts),
            older=tuple(
                Named(name=_day(found), value=found.digest) for found in known if found != current
            ),
        )
        return Made(entry, details, charts, tuple(problems))

    def _plan(self, name: str, newest: Read | None) -> tuple[Release | None, PlanFacts]:
        if name not in self.project.release_files:
            return None, PlanFacts(known=False)
        manifest = None
        try:
            manifest = self.project.release(name)
            planned = make_plan(subject(self.project, manifest, self.site), STAGES, self.store)
        except RelforgeError as error:
            what = ": ".join(part for part in (error.what, error.why) if part)
            return manifest, PlanFacts(error=what)
        inputs = newest.raw.get("inputs") if newest else None
        stale = differences(inputs if isinstance(inputs, Mapping) else {}, planned)
        return manifest, PlanFacts(
            renders="render" not in planned.skips,
            unresolved=planned.subject.lock.unresolved,
            stale=stale if newest is not None else (),
        )

    def _changes(
        self, newest: Read, known: Sequence[Found], problems: list[Said]
    ) -> Changes | None:
        """Since the newest record that is older."""
        for found in sorted(known, key=lambda one: one.created_s, reverse=True):
            if found.path == newest.found.path or found.created_s > newest.found.created_s:
                continue
            before = self._read(found, problems)
            if before is None or before.raw == newest.raw:
                continue
            try:
                return changes_between(before.record, newest.record)
            except RelforgeError:
                continue  # the name once meant another device or model
        return None

    def _read(self, found: Found, problems: list[Said]) -> Read | None:
        where = f"{found.path.parent.name}/{found.path.name}"
        try:
            raw = read(found.path)
            return Read(found, raw, record_of(raw, where=where, folder=found.folder))
        except (OSError, ValueError, RelforgeError) as error:
            why = getattr(error, "why", None) or getattr(error, "strerror", None) or str(error)
            problems.append(
                Said(
                    text="%(file)s: no release record: %(why)s",
                    values={"file": where, "why": str(why)},
                )
            )
            return None


def _of(newest: Read | None, field: str) -> str:
    return str(getattr(newest.record, field)) if newest else _UNKNOWN


def _day(found: Found) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.created_s))
