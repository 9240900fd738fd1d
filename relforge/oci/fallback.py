"""What is attached to a digest, in registries without a referrers API: an index under a tag.

Source: distribution specification 1.1, "Referrers tag schema". A registry has no way to change an
index only if nobody else did: so what was written is read again after a moment, and written again
where another publisher's write has gone over it. Entries of others are always kept.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.store import OCI_INDEX, Descriptor, Manifest

SETTLING_S = 0.3
"""How long after a write it is read again: longer than another publisher takes from its last look
at the index to its own write."""
_ATTEMPTS = 8


def entries_of(index: Manifest | None) -> tuple[Descriptor, ...]:
    """What an index lists; nothing where there is none."""
    return index.manifests if index is not None and index.is_index else ()


def index_of(entries: Sequence[Descriptor], *, artifact_type: str | None = None) -> Manifest:
    """An OCI index of these entries, by digest; the same entries give the same bytes."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [one.to_json() for one in sorted(entries, key=lambda one: one.digest)],
    }
    if artifact_type is not None:
        value["artifactType"] = artifact_type
    return Manifest.make(OCI_INDEX, value)


def merged(
    known: Sequence[Descriptor], more: Sequence[Descriptor]
) -> tuple[tuple[Descriptor, ...], bool]:
    """Both, each digest once, and whether ``more`` adds anything."""
    found = {one.digest: one for one in (*more, *known)} | {one.digest: one for one in known}
    return tuple(found.values()), len(found) > len({one.digest for one in known})


def enlist(
    read: Callable[[], Manifest | None],
    write: Callable[[Manifest], None],
    entries: Sequence[Descriptor],
    *,
    where: str,
    cancel: CancelToken | None,
) -> None:
    """Sees to it that the index has these entries beside those of others.

    Raises RelforgeError (PUBLISH) when others go over it again and again.
    """
    for attempt in range(_ATTEMPTS):
        before = read()
        whole, changed = merged(entries_of(before), entries)
        if not changed:
            return
        index = index_of(whole)
        # The last look before writing: the less time between, the less is gone over.
        if _digest(read()) == _digest(before):
            write(index)
        wait_s = SETTLING_S * (1 + attempt * random.random())  # noqa: S311
        time.sleep(wait_s) if cancel is None else cancel.sleep(wait_s)
    raise RelforgeError(
        "what is attached to the image could not be listed",
        code=ExitCode.PUBLISH,
        where=where,
        why="others write the same list at the same time",
        hint="run the same command again when they are done",
    )


def _digest(manifest: Manifest | None) -> str | None:
    return None if manifest is None else manifest.descriptor.digest
