"""Which things go: those that nothing needs, by last use, then by size."""

from __future__ import annotations

from collections.abc import Sequence

from relforge.collecting.measuring import Files, Freed
from relforge.collecting.model import RANK, Item


def chosen(
    items: Sequence[Item], *, now_s: float, older_than_s: float, max_bytes: int | None, home: Files
) -> tuple[list[tuple[Item, str]], int]:
    """What goes, in its order, each with the reason; and the bytes that this frees.

    ``home`` are all files of the home: with ``max_bytes`` things that are younger go as well,
    those first that were used least lately, until the rest takes no more than that.
    """
    free = [one for one in items if one.needed is None]
    free.sort(key=lambda one: (one.last_used_s, RANK.get(one.kind, len(RANK)), one.name))
    total = sum(size for size, _, _ in home.values())
    freed = Freed()
    gone: list[tuple[Item, str]] = []
    for one in free:
        if one.last_used_s <= now_s - older_than_s:
            why = "nothing needs it, and it was not used for that long"
        elif max_bytes is not None and total - freed.bytes > max_bytes:
            why = "nothing needs it, and the home is larger than it may be"
        else:
            break
        freed.add(one.files)
        gone.append((one, why))
    return gone, freed.bytes
