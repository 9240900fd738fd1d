"""Removes what killed runs left: on disk, as containers, in BuildKit's cache.

Decrypted work areas go when any verb starts (``workarea.py``); the rest goes here, before
the first stage works. Everything is removed only when its owner is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from relforge import workarea
from relforge.errors import RelforgeError
from relforge.leftovers import sweep_folder
from relforge.manifest.site import EngineSite


def files(home: Path, dist: Path, line: Callable[[str], None]) -> list[Path]:
    """Removes half-made folders and files of home and dist; returns them.

    ``line`` is told of each, and of what cannot be removed.
    """
    removed = workarea.sweep(home, line)
    for folder in _workplaces(home, dist):
        removed += sweep_folder(folder, line)
    for path in removed:
        line(f"removed {path}, left by a run that was killed")
    return removed


def engine(home: Path, site: EngineSite, line: Callable[[str], None]) -> None:
    """Removes containers, and takes sealed sources out of BuildKit's cache.

    Does nothing when the engine does not answer: that is for preflight's own look to say.
    """
    from relforge.engine import sealed_cache
    from relforge.engine.client import connect
    from relforge.engine.containers import sweep

    try:
        client = connect(site)
    except RelforgeError:
        return
    try:
        for name in sweep(client):
            line(f"removed container {name}, left by a run that was killed")
    finally:
        client.close()
    sealed_cache.prune_left_behind(home, site=site, line=line)


def _workplaces(home: Path, dist: Path) -> Iterator[Path]:
    """Where results are made before they are renamed into their places."""
    store = home / "store"
    # What came from other hosts: ``executor/ray_store.room_for``.
    yield from (store, home / "ray", home / "runs")
    yield from sorted(store.glob("outputs/*/*"))
    yield store / "files" / ".incoming"
    yield store / "wheelhouses"
    yield from sorted((home / "base").glob("*"))
    yield from sorted((home / "ray" / "files").glob("*"))
    yield dist
