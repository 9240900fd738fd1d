"""What lies in a home beside the store: bases, answers, data sets, scans, logs, uploads, locks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relforge.collecting.items import Mentions, item, names_below
from relforge.collecting.measuring import measured, total_bytes
from relforge.collecting.model import EngineCopy, Item, Kind, Untouched
from relforge.engine.base_image import LABEL_KEY

_LOGS: dict[str, Kind] = {"bench": "logs", "serve": "logs", "smoke": "logs"}
_NEVER = {
    "publications": "the journal of what was sent where",
    "prune": "notes of sealed sources that have to leave BuildKit's cache",
    "ray/node": "what Ray itself keeps of a worker",
    "locks": "locks",
    "work": "work areas; those whose owner is gone go whenever relforge starts",
}
_COLLECTED = {
    "runs", "store", "base", "answers", "datasets", "scan", "tuning", "leaving", "server-weights",
    "ray",
    *_LOGS, *_NEVER,
}  # fmt: skip
_SENT = ("files", "projects", "outside", "dist", "weights", "incoming")
"""Below ``ray``; earlier versions had what came to a driver in ``incoming``."""
_RAY = {*_SENT, "node", "node.log", "locks"}
_STORE = {
    "results", "outputs", "blobs", "sources", "git", "repositories", "files", "wheelhouses",
    "weights", "latest", "locks",
}  # fmt: skip


def of_caches(home: Path, mentions: Mentions) -> Iterator[Item]:
    """Everything else that may go."""
    for path in _folders(home / "base"):
        short = path.name[:12]
        label = (LABEL_KEY, path.name)
        yield item(
            "base", short, [path],
            at_least_s=mentions.used.get(path.name, 0.0), needed=mentions.needed(path.name),
            # What a registry gave out is only named by us; it goes with the copy.
            images=(EngineCopy(name=f"relforge-base:{short}", label=label),),
        )  # fmt: skip
    places: tuple[tuple[Kind, str], ...] = (("answers", "answers"), ("dataset", "datasets"))
    for kind, name in places:
        for path in _folders(home / name):
            yield item(
                kind, path.name[:12], [path],
                at_least_s=mentions.used.get(path.name, 0.0), needed=mentions.kept.get(path.name),
            )  # fmt: skip
    for path in sorted((home / "scan" / "layers").glob("*/*.json")):
        yield item(
            "scan", path.stem[:12], [path],
            at_least_s=mentions.used.get(path.stem, 0.0), needed=mentions.kept.get(path.stem),
        )  # fmt: skip
    for path in sorted((home / "scan" / "packages").glob("*.json.gz")):
        yield item("scan", path.name[:12], [path])
    # Where a job is at work the home is in use; whatever goes is sent again when it is wanted.
    for path in sorted((home / "ray" / "files").glob("??/*")):
        yield item("sent", path.name[:12], [path])
    for name in _SENT[1:]:
        for path in sorted((home / "ray" / name).glob("*")):
            yield item("sent", f"{name} {path.name[:12]}", [path])
    for name, kind in _LOGS.items():
        for path in _folders(home / name):
            yield item(kind, path.name, [path])
    for path in sorted((home / "tuning").glob("*/*")):
        yield item("tuning", f"{path.parent.name} {path.name}", [path])
    for path in sorted((home / "store" / "repositories").glob("*.git")):
        yield item("repository", path.name, [path])
    for path in _files(home / "publications" / "registry"):
        yield item("upload", path.name[:24], [path])


def locks(home: Path) -> list[Path]:
    """Lock files of keys; nobody may hold one of them, and each is made again when it is needed."""
    found = [*_files(home / "store" / "locks"), *_files(home / "locks")]
    found += sorted((home / "ray" / "locks").glob("??/*"))
    found += sorted((home / "work").glob("base-*.lock"))
    return [path for path in found if path.name != "in-use"]


def untouched(home: Path, *, weights: bool) -> list[Untouched]:
    """What stays whatever its age, and what relforge does not know."""
    found = []
    for name, why in _NEVER.items():
        if (home / name).exists():
            found.append(_left(home / name, name, why))
    for name in ("store/weights", "server-weights"):
        if not weights and (home / name).exists():
            found.append(_left(home / name, name, "weights go only with --weights"))
    places = ((home, _COLLECTED), (home / "store", _STORE), (home / "ray", _RAY))
    for folder, known in places:
        for name in names_below(folder):
            if name not in known:
                place = folder / name
                shown = str(place.relative_to(home))
                found.append(_left(place, shown, "relforge does not know it"))
    return found


def _left(path: Path, what: str, why: str) -> Untouched:
    return Untouched(what=what, bytes=total_bytes(measured([path])[0]), why=why)


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*/")) if not path.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if path.is_file()]
