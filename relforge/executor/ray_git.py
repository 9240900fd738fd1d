"""Git objects that travel: which ones trees are made of, which are missing, and a pack of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from relforge.gitio import Git


def names_for(trees: Iterable[str], commits: Iterable[tuple[str, str]]) -> list[str]:
    """What ``objects_of`` takes: trees, and a commit with a path in it as ``COMMIT:PATH``."""
    return [*trees, *(f"{commit}:{path}" for commit, path in commits)]


def objects_of(git: Git, names: Sequence[str]) -> list[str]:
    """Every object below the trees; of ``COMMIT:PATH`` also the commit and the trees on the way.

    Raises RelforgeError (SOURCE) when the store has not all of them.
    """
    found: dict[str, None] = {}
    tops = []
    for name in names:
        commit, _, path = name.partition(":")
        top = git.text("rev-parse", "--verify", "--end-of-options", name)
        if path:
            parts = Path(path).parts
            on_the_way = [commit, f"{commit}^{{tree}}"]
            on_the_way += [f"{commit}:{'/'.join(parts[:n])}" for n in range(1, len(parts))]
            for one in on_the_way:
                found[git.text("rev-parse", "--verify", "--end-of-options", one)] = None
        if git.has(top, "tree"):
            tops.append(top)
        else:
            found[top] = None
    if tops:
        listed = git.run(
            "rev-list", "--objects", "--no-object-names", "--stdin",
            stdin="".join(f"{top}\n" for top in tops).encode(),
        )  # fmt: skip
        found |= dict.fromkeys(listed.text.split())
    return list(found)


def missing_objects(git: Git, objects: Sequence[str]) -> list[str]:
    """Those that the repository has not."""
    if not objects:
        return []
    done = git.run(
        "cat-file", "--batch-check=%(objectname)",
        stdin="".join(f"{name}\n" for name in objects).encode(),
    )  # fmt: skip
    return [
        row.removesuffix(" missing") for row in done.text.splitlines() if row.endswith("missing")
    ]


def pack_objects(git: Git, objects: Sequence[str], dest: Path) -> None:
    """Writes one pack of exactly these objects."""
    with tempfile.TemporaryDirectory(dir=dest.parent) as folder:
        done = git.run(
            "pack-objects", "--quiet", Path(folder) / "new",
            stdin="".join(f"{name}\n" for name in objects).encode(),
        )  # fmt: skip
        (Path(folder) / f"new-{done.text}.pack").rename(dest)


def take_pack(git: Git, pack: Path) -> None:
    """Puts the objects of a pack into the repository; every object's hash is checked."""
    with pack.open("rb") as stream:
        git.run("index-pack", "--stdin", stdin=stream)
