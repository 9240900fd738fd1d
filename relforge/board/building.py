"""The board as data: every release of a project and every record, judged and laid out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relforge import __version__
from relforge.board.history import read_history, with_run
from relforge.board.model import Attempt, Index, Titled
from relforge.board.one import Made, Maker
from relforge.board.records import Records, find_records
from relforge.errors import RelforgeError
from relforge.evidence.store import Store
from relforge.executor.forked import in_slices
from relforge.manifest.project import Project
from relforge.manifest.site import Site
from relforge.pipeline import STAGES


@dataclass(frozen=True)
class Origin:
    """Where a board is made from. ``page`` is the folder that it is for, which links start at; None
    where it is served."""

    project: Project
    site: Site
    home: Path
    dists: tuple[Path, ...]
    history: tuple[Path, ...]
    page: Path | None


@dataclass
class Board:
    """All releases, by name: those of the project, and those that only a record knows."""

    origin: Origin
    records: Records
    runs: dict[str, list[Attempt]]
    made: dict[str, Made] = field(default_factory=dict)

    @property
    def index(self) -> Index:
        every = [self.made[name] for name in sorted(self.made)]
        entries = tuple(one.entry for one in every)
        times = [time for one in entries for time in (one.created_s, one.run_s) if time is not None]
        return Index(
            relforge=__version__,
            as_of_s=max(times, default=None),
            stages=tuple(stage.name for stage in STAGES),
            releases=entries,
            devices=tuple(_devices(self.origin.project, {one.device for one in entries})),
            models=tuple(_models(self.origin.project, {one.model for one in entries})),
            problems=(*self.records.problems, *(p for one in every for p in one.problems)),
        )

    def make_again(self, release: str) -> Made:
        """The release as manifests, record and known runs say now; also in the index."""
        origin = self.origin
        self.records = self.records.again(release, origin.dists)
        # Manifests may have changed: a project reads each of its files once.
        self.made[release] = self._maker(Project(origin.project.roots)).make(release)
        return self.made[release]

    def note_run(self, folder: Path) -> list[str]:
        """Takes a run's folder as it is now; returns the releases that it has."""
        return with_run(self.runs, folder)

    def _maker(self, project: Project) -> Maker:
        origin = self.origin
        nowhere = Store(Path(tempfile.gettempdir()) / "relforge-no-store")
        return Maker(project, origin.site, nowhere, origin.page, self.records, self.runs)


def make_board(origin: Origin) -> Board:
    """Reads manifests, records and runs, in several processes where there are many releases.

    Raises RelforgeError (USAGE) for devices that share a name.
    """
    board = Board(origin, find_records(origin.dists, origin.history), read_history(origin.home))
    maker = board._maker(origin.project)
    names = sorted(_shown(board))

    def work(part: Sequence[str]) -> list[Made]:
        return [maker.make(name) for name in part]

    for made in in_slices(names, work) if names else ():
        board.made.update((one.entry.release, one) for one in made)
    return board


def _shown(board: Board) -> set[str]:
    """The project's own releases, and of others those that were recorded or run here: those of the
    built-in project come with the program, and are not everybody's to make."""
    project = board.origin.project
    run = {name for name in board.runs if name in project.release_files}
    return {*project.own_releases, *board.records.by_release, *run}


def _devices(project: Project, names: set[str]) -> Iterator[Titled]:
    for name in sorted(names):
        try:
            device = project.device(name)
        except RelforgeError:
            yield Titled(name=name, title=name)
            continue
        yield Titled(name=name, title=device.title or name, vendor=device.vendor.name)


def _models(project: Project, names: set[str]) -> Iterator[Titled]:
    for name in sorted(names):
        try:
            title = project.model(name).title or name
        except RelforgeError:
            title = name
        yield Titled(name=name, title=title)


def counts(board: Board) -> Mapping[str, int]:
    """How many releases are in each state."""
    found: dict[str, int] = {}
    for one in board.made.values():
        found[one.entry.state] = found.get(one.entry.state, 0) + 1
    return found
