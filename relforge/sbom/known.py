"""What syft found in files is kept, for every image that holds the same files.

Releases of one device often differ in their labels alone; of an image of gigabytes syft takes
minutes. It reads an image without labels (``engine.bare``), so that what it says is of the files,
and the documents name the release and its image themselves.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from relforge.cancel import CancelToken
from relforge.engine.bare import bare_layout
from relforge.files import write_atomic
from relforge.frozen import content_key
from relforge.locks import held_lock
from relforge.sbom.syft import CONTENTS, Scanned, Syft, scan
from relforge.workarea import work_area

_NAME = "image"
"""The same for all; it stands in identifiers of the documents."""
_FORMAT = 1


def scan_once(
    syft: Syft,
    layout: Path,
    *,
    home: Path,
    line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> tuple[Scanned, bool]:
    """What syft finds in the first architecture's files, and whether that was known already.

    Whoever wants the same at the same time waits. Raises what ``scan`` and ``bare_layout`` raise.
    """
    with work_area(home, "sbom") as area, bare_layout(layout, area) as (bare, facts):
        key = content_key(
            {
                "format": _FORMAT, "syft": syft.version, "contents": CONTENTS, "name": _NAME,
                "image": facts.digest,
            }
        )  # fmt: skip
        kept = home / "scan" / "packages" / f"{key}.json.gz"
        lock = home / "locks" / f"packages-{key[:32]}.lock"
        with held_lock(lock, purpose="packages of an image", on_wait=line, cancel=cancel):
            if (known := _known(kept)) is not None:
                return known, True
            found = scan(syft, bare, name=_NAME, area=area, line=line, cancel=cancel)
            # Level 1: a tenth of the size after a tenth of the time that the best takes.
            write_atomic(kept, gzip.compress(found.model_dump_json().encode(), 1, mtime=0))
            return found, False


def _known(path: Path) -> Scanned | None:
    try:
        known = Scanned.model_validate_json(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError, ValidationError):
        return None
    with suppress(OSError):  # it may be another user's
        os.utime(path)  # it is wanted: collecting goes by age
    return known
