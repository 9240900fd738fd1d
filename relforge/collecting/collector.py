"""The whole collection: looks at everything, decides, then deletes, or only says what it would."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from relforge import workarea
from relforge.cancel import CancelToken
from relforge.collecting import caches, git, items
from relforge.collecting.deciding import chosen
from relforge.collecting.discarding import Leaving, discard_lock
from relforge.collecting.measuring import measured, total_bytes
from relforge.collecting.model import (
    YOUNGER,
    GcOutput,
    Gone,
    Item,
    Kept,
    KeptRun,
    Kind,
    Wanted,
)
from relforge.collecting.of_engine import OfEngine
from relforge.collecting.roots import Roots, roots
from relforge.errors import RelforgeError
from relforge.manifest.site import Site


class Collector:
    """One collection in one home; the caller sees to it that nobody else uses the home
    (``in_use.alone``). ``engine`` is None where the engine is left alone."""

    def __init__(
        self,
        home: Path,
        wanted: Wanted,
        *,
        site: Site,
        root: Path,
        dist: Path,
        engine: OfEngine | None,
        line: Callable[[str], None],
        cancel: CancelToken,
    ) -> None:
        self.home, self.wanted = home, wanted
        self.site, self.root, self.dist = site, root, dist
        self.engine, self.line, self.cancel = engine, line, cancel
        self.now_s = time.time()
        self.leaving = Leaving(home, line)

    def run(self) -> GcOutput:
        """Collects; with ``dry_run`` nothing is changed.

        Raises RelforgeError (ENVIRONMENT) when something cannot be deleted, Cancelled: then what
        went so far is gone, and everything else is whole.
        """
        wanted, home = self.wanted, self.home
        left = self._left_behind()
        found = roots(home, wanted, site=self.site, root=self.root, dist=self.dist)
        every = self._items(found)
        self.cancel.check()
        gone, freed = chosen(
            every,
            now_s=self.now_s,
            older_than_s=wanted.older_than_s,
            max_bytes=wanted.max_bytes,
            home=measured([home])[0],
        )
        going = {id(one) for one, _ in gone}
        staying = [one for one in every if id(one) not in going]
        if not wanted.dry_run:
            freed += self._discard([one for one, _ in gone])
        told = [*left, *(_gone(one, why) for one, why in gone)]
        untouched = caches.untouched(home, weights=wanted.weights)
        if self.engine is not None:
            names = {copy.name for one in staying for copy in one.images}
            found_there, alone = self.engine.collect(
                [one for one, _ in gone], names, self.leaving, wanted, self.cancel
            )
            told += found_there
            untouched += alone
        total = total_bytes(measured([home])[0])
        return GcOutput(
            dry_run=wanted.dry_run,
            home=str(home),
            older_than_s=wanted.older_than_s,
            keep_last=wanted.keep_last,
            max_bytes=wanted.max_bytes,
            gone=tuple(told),
            freed_bytes=freed,
            home_bytes=total - freed if wanted.dry_run else total,
            kept=_kept(staying),
            kept_runs=self._kept_runs(found, staying),
            untouched=tuple(untouched),
            warnings=tuple(found.warnings),
        )

    def _left_behind(self) -> list[Gone]:
        """What killed runs and collectors left in half; it goes first."""
        from relforge import sweeping

        told = [
            Gone(kind="left-behind", name=str(path.relative_to(self.home)), bytes=size,
                 last_used_s=None, why="a collector that was killed left it")
            for path in self.leaving.left()
            for size in [total_bytes(measured([path])[0])]
        ]  # fmt: skip
        if self.wanted.dry_run:
            return told
        self.leaving.finish()
        swept = [
            *workarea.sweep(self.home, self.line),
            *sweeping.files(self.home, self.dist, self.line),
        ]
        return told + [
            Gone(kind="left-behind", name=str(path), bytes=0, last_used_s=None,
                 why="its owner is gone")
            for path in dict.fromkeys(swept)
        ]  # fmt: skip

    def _items(self, found: Roots) -> list[Item]:
        mentions = items.Mentions()
        every = [
            *items.of_runs(self.home, found),
            *items.of_results(self.home, found, mentions),
            *items.of_mentioned(self.home, mentions),
            *caches.of_caches(self.home, mentions),
            *git.of_git(self.home, mentions),
        ]
        if self.wanted.weights:
            every += items.of_weights(self.home, mentions)
        return every

    def _discard(self, gone: list[Item]) -> int:
        """Deletes in the order that was decided; the bytes that git's objects took besides."""
        for one in gone:
            self.cancel.check()
            if one.kind == "git":
                git.discard(self.home, [one])
            else:
                self.leaving.discard(one)
        old_s = self.now_s - self.wanted.older_than_s
        for path in caches.locks(self.home):
            if _changed_s(path) <= old_s:
                discard_lock(path)
        try:
            return git.prune(
                self.home, older_than_s=self.wanted.older_than_s, now_s=self.now_s,
                cancel=self.cancel,
            )  # fmt: skip
        except RelforgeError as error:
            self.line(f"warning: objects stay in {self.home / 'store' / 'git'}: {error.what}")
            return 0

    def _kept_runs(self, found: Roots, staying: list[Item]) -> tuple[KeptRun, ...]:
        return tuple(
            KeptRun(id=one.name, why=found.runs.get(one.name, YOUNGER))
            for one in staying
            if one.kind == "run"
        )


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _gone(one: Item, why: str) -> Gone:
    return Gone(
        kind=one.kind,
        name=one.name,
        bytes=one.bytes,
        last_used_s=round(one.last_used_s, 3),
        why=why,
    )


def _kept(staying: list[Item]) -> tuple[Kept, ...]:
    counts: dict[Kind, tuple[int, int]] = {}
    for one in staying:
        count, size = counts.get(one.kind, (0, 0))
        counts[one.kind] = (count + 1, size + one.bytes)
    return tuple(Kept(kind=kind, count=c, bytes=b) for kind, (c, b) in sorted(counts.items()))
