"""What goes in the engine with what went in the home."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from relforge.cancel import CancelToken
from relforge.collecting import engine
from relforge.collecting.discarding import Leaving
from relforge.collecting.model import EngineCopy, Gone, Item, Untouched, Wanted
from relforge.engine.cli import DockerCli, find_cli
from relforge.errors import RelforgeError
from relforge.manifest.site import EngineSite

_CACHE = "BuildKit's cache"


class OfEngine:
    """An engine that answers. ``cache`` says whether BuildKit's cache is looked at."""

    def __init__(
        self, site: EngineSite, *, line: Callable[[str], None], cache: bool = True
    ) -> None:
        self._site, self._line, self._with_cache = site, line, cache
        self._cli: DockerCli = find_cli(site)

    def collect(
        self,
        gone: Sequence[Item],
        staying: set[str],
        leaving: Leaving,
        wanted: Wanted,
        cancel: CancelToken,
    ) -> tuple[list[Gone], list[Untouched]]:
        """What went, or would go, and what is left alone; ``staying`` are names of images that
        something in the home still stands for. What the engine refuses is told, and stays noted."""
        told: list[Gone] = []
        untouched: list[Untouched] = []
        for look in (self._containers, self._cache):
            try:
                found, left = look(wanted, cancel)
                told += found
                untouched += left
            except RelforgeError as error:
                self._line(f"warning: {error.what}: {error.why or error.where or ''}")
        told += self._images(gone, staying, leaving, wanted, cancel)
        untouched.append(
            Untouched(
                what="other images, containers and volumes of the engine",
                bytes=None,
                why="nothing that was collected here stands for them",
            )
        )
        return told, untouched

    def _images(
        self,
        gone: Sequence[Item],
        staying: set[str],
        leaving: Leaving,
        wanted: Wanted,
        cancel: CancelToken,
    ) -> list[Gone]:
        if wanted.dry_run:
            noted = (note.images for _, note in leaving.notes())
            copies = [copy for images in (*noted, *(one.images for one in gone)) for copy in images]
            return self._there(copies, staying)
        told: list[Gone] = []
        for path, note in leaving.notes():
            cancel.check()
            try:
                there = self._there(note.images, staying)
                kept = [why for copy in note.images if (why := self._remove(copy, there))]
            except RelforgeError as error:
                self._line(f"warning: {error.what}: {error.why or error.where or ''}")
                continue
            if kept:
                for why in kept:
                    self._line(f"warning: {why}; the next collection tries again")
                continue
            path.unlink(missing_ok=True)
            told += there
        return told

    def _there(self, copies: Iterable[EngineCopy], staying: set[str]) -> list[Gone]:
        found = {}
        for copy in copies:
            if copy.name in staying or copy.name in found:
                continue
            size = engine.image_bytes(copy, self._cli)
            if size is not None:
                found[copy.name] = Gone(
                    kind="image", name=copy.name, bytes=size, last_used_s=None,
                    why="what it was made for is gone",
                )  # fmt: skip
        return list(found.values())

    def _remove(self, copy: EngineCopy, there: Sequence[Gone]) -> str | None:
        if all(one.name != copy.name for one in there):
            return None
        return engine.remove_image(copy, self._cli)

    def _containers(
        self, wanted: Wanted, cancel: CancelToken
    ) -> tuple[list[Gone], list[Untouched]]:
        from relforge.engine.client import connect
        from relforge.engine.containers import left_behind, sweep

        cancel.check()
        client = connect(self._site)
        try:
            names = [name for _, name in left_behind(client)] if wanted.dry_run else sweep(client)
        finally:
            client.close()
        return [
            Gone(kind="container", name=name, bytes=0, last_used_s=None, why="its owner is gone")
            for name in names
        ], []

    def _cache(self, wanted: Wanted, cancel: CancelToken) -> tuple[list[Gone], list[Untouched]]:
        if not self._with_cache:
            return [], [Untouched(what=_CACHE, bytes=None, why="it was not asked for")]
        old, others = engine.unused_cache(self._cli, wanted.older_than_s, cancel=cancel)
        if not wanted.dry_run:
            old = engine.prune_cache(
                self._cli, old, wanted.older_than_s, line=self._line, cancel=cancel
            )
        told = [
            Gone(
                kind="build-cache", name=f"{one.id[:12]} {one.description[:60]}", bytes=one.bytes,
                last_used_s=None, why="a step of relforge's that was not used for that long",
            )
            for one in old
        ]  # fmt: skip
        left = Untouched(
            what=f"{len(others)} records of {_CACHE}",
            bytes=sum(one.bytes for one in others),
            why="they are younger, or nothing shows that they are relforge's",
        )
        return told, [left]
