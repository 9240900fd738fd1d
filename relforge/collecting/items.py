"""What lies in a home: runs, results with what belongs to them, and what these mention."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.collecting.measuring import measured, total_bytes
from relforge.collecting.model import EngineCopy, Item, Kind
from relforge.collecting.roots import Key, Roots, hashes_in, used_s


@dataclass
class Mentions:
    """Hashes that results mention: who of those that stay, and when a user of them was last used.

    ``kept`` is of results alone; ``pinned`` also of manifests and locks.
    """

    kept: dict[str, str] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)

    def add(self, tokens: Iterable[str], used_s: float, why: str | None) -> None:
        for one in tokens:
            self.used[one] = max(self.used.get(one, 0.0), used_s)
            if why is not None:
                self.kept.setdefault(one, why)

    def needed(self, token: str) -> str | None:
        return self.kept.get(token) or self.pinned.get(token)


def item(
    kind: Kind, name: str, paths: Iterable[Path], *, used_s: float | None = None,
    at_least_s: float = 0.0, needed: str | None = None, images: tuple[EngineCopy, ...] = (),
) -> Item:  # fmt: skip
    """What the paths hold; without ``used_s`` it was last used when it was last changed."""
    every = tuple(paths)
    files, newest = measured(every)
    return Item(
        kind=kind,
        name=name,
        paths=every,
        last_used_s=max(newest if used_s is None else used_s, at_least_s),
        bytes=total_bytes(files),
        needed=needed,
        images=images,
        files=files,
    )


def of_runs(home: Path, roots: Roots) -> Iterator[Item]:
    """Run folders, by the end of the run."""
    for folder in sorted((home / "runs").glob("*/")):
        run = roots.all_runs.get(folder.name)
        yield item(
            "run",
            folder.name,
            [folder],
            used_s=used_s(run) if run else None,
            needed=roots.runs.get(folder.name),
        )


def of_results(home: Path, roots: Roots, mentions: Mentions) -> Iterator[Item]:
    """Results with the folders that they own; fills ``mentions``."""
    store = home / "store"
    mentions.pinned.update(roots.mentioned)
    for key, at_s in roots.uses.items():
        # A run that goes on will look for what its stages left half done.
        mentions.add([key[1][:32]], at_s, roots.results.get(key))
    owned: set[Path] = set()
    for path in sorted((store / "results").glob("*/*.json")):
        key = (path.parent.name, path.stem)
        try:
            data = path.read_bytes()
        except OSError:
            continue
        record = _read(data)
        used = max(float(record.get("created_s") or 0.0), roots.uses.get(key, 0.0))
        copies, more = _of_build(key, record)
        why = roots.results.get(key) or _published(roots, record)
        mentions.add(hashes_in(data) | more, used, why)
        outputs = store / "outputs" / key[0] / key[1][:32]
        owned.add(outputs)
        paths = [path, outputs] if outputs.exists() else [path]
        name = f"{key[0]} {key[1][:12]}"
        yield item("result", name, paths, used_s=used, needed=why, images=copies)
    for path in sorted((home / "tuning").glob("*/*/*")):
        # Journals of searches name the evidence of their verdicts.
        if path.is_file():
            mentions.add(hashes_in(path.read_bytes()), path.stat().st_mtime, None)
    for path in sorted((store / "outputs").glob("*/*")):
        if path not in owned:
            token = path.name
            yield item(
                "orphan",
                f"{path.parent.name} {path.name[:12]}",
                [path],
                at_least_s=mentions.used.get(token, 0.0),
                needed=mentions.kept.get(token),
            )


def of_mentioned(home: Path, mentions: Mentions) -> Iterator[Item]:
    """What results, locks and manifests name by hash."""
    store = home / "store"

    def by(kind: Kind, path: Path, token: str, *more: Path) -> Item:
        return item(
            kind, path.name if len(path.name) < 40 else path.name[:12], [path, *more],
            at_least_s=mentions.used.get(token, 0.0), needed=mentions.needed(token),
        )  # fmt: skip

    for path in _files(store / "blobs", "*/*"):
        yield by("blob", path, path.name)
    # An index names its file: it goes before that, and was used no later.
    for path in _files(store / "sources", "*.json"):
        named = _read(path.read_bytes())
        tokens = [str(named[one]) for one in ("tree", "commit", "sha256") if named.get(one)]
        used = max((mentions.used.get(one, 0.0) for one in tokens), default=0.0)
        needed = next((why for one in tokens if (why := mentions.needed(one))), None)
        found = item("source", path.name[:12], [path], at_least_s=used, needed=needed)
        mentions.add(tokens, found.last_used_s, needed)
        yield found
    for path in _files(store / "files", "*"):
        if not path.name.startswith("."):
            found = by("file", path, path.name)
            names = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
            found.name = names[0] if names else found.name
            yield found
    for path in _files(store / "wheelhouses", "*"):
        if path.is_dir() and not path.name.startswith("."):
            stamp = path.with_name(f"{path.name}.json")
            yield by("wheels", path, path.name, *([stamp] if stamp.exists() else []))


def of_weights(home: Path, mentions: Mentions) -> Iterator[Item]:
    """Weight files; a manifest that pins one does not keep it, results and runs do."""
    folder = home / "store" / "weights"
    for path in _files(folder, "??/*"):
        if path.suffix != ".json":
            stamp = path.with_name(f"{path.name}.json")
            yield item(
                "weights", path.name[:12], [*([stamp] if stamp.exists() else []), path],
                at_least_s=mentions.used.get(path.name, 0.0),
                needed=mentions.kept.get(path.name),
            )  # fmt: skip
    for path in _files(folder / ".incoming", "*"):
        yield item("weights", f"{path.name[:12]}, half fetched", [path])
    for path in _files(home / "server-weights", "*"):
        yield item("weights", f"{path.name}, fetched by servers", [path])


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def _read(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _published(roots: Roots, record: dict[str, Any]) -> str | None:
    result = record.get("result")
    digest = result.get("image_digest") if isinstance(result, dict) else None
    return roots.digests.get(digest) if isinstance(digest, str) else None


def _of_build(key: Key, record: dict[str, Any]) -> tuple[tuple[EngineCopy, ...], set[str]]:
    """The engine's copy of a built image, and the bases that it may stand on."""
    from relforge.engine.base_image import base_keys

    result, inputs = record.get("result"), record.get("inputs")
    if key[0] != "build" or not isinstance(result, dict) or not isinstance(inputs, dict):
        return (), set()
    ids = [str(result[one]) for one in ("image_digest", "config_digest") if result.get(one)]
    ids += [
        str(one[name])
        for one in result.get("platforms") or ()
        if isinstance(one, dict)
        for name in ("digest", "config_digest")
        if one.get(name)
    ]
    name = result.get("image_name")
    copies = (EngineCopy(name=name, ids=tuple(ids)),) if isinstance(name, str) else ()
    return copies, set(base_keys(inputs.get("base"), str(inputs.get("architecture") or "")))


def names_below(folder: Path) -> list[str]:
    """What lies directly in a folder."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 (names, not paths)
    except OSError:
        return []
