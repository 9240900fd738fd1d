"""What of the container engine is relforge's to remove, and how it is told from the rest.

An engine may serve several homes, and people. So: an image only where this home made a thing that
stands for it, under that thing's name, and only the very image; a container only when its label
says that its owner is gone; of BuildKit's cache only records whose description shows a step, a
context or a mount of relforge's own Dockerfiles. Nothing is forced: what a container uses stays.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from relforge import proc
from relforge.amounts import size_bytes
from relforge.cancel import CancelToken
from relforge.collecting.model import EngineCopy
from relforge.engine import prune
from relforge.engine.cli import DockerCli
from relforge.engine.images import find_image
from relforge.errors import ExitCode, RelforgeError

_IN_USE = ("is using its referenced image", "is being used by", "must be forced")
MARKS = (
    re.compile(r"/tools/(apt-install|settle\.py|report\.py|installed\.py|split_layers\.py)\b"),
    re.compile(r"--from=(wheel|native)-[\w.-]+ /layers/"),
    re.compile(r"^local source for (tools|wheels|build-wheels)$"),
    re.compile(r"--from=report-run /report\.json"),
)
"""What only Dockerfiles that relforge renders bring into a description."""
_AGE = re.compile(
    r"^(?:less than a |about an? |(\d+) )(second|minute|hour|day|week|month|year)s?(?: ago)?$",
    re.IGNORECASE,
)
_UNIT_S = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400,
    "month": 30 * 86400, "year": 365 * 86400,
}  # fmt: skip


@dataclass(frozen=True)
class CacheRecord:
    """A record of BuildKit's cache; ``unused_s`` is at least how long nobody used it."""

    id: str
    description: str
    bytes: int
    unused_s: float


def image_bytes(copy: EngineCopy, cli: DockerCli) -> int | None:
    """What the engine says the very image takes; None: it has no such image under that name."""
    found = find_image(copy.name, cli=cli)
    if found is None:
        return None
    if copy.label is not None and found.labels.get(copy.label[0]) != copy.label[1]:
        return None
    if copy.label is None and found.id not in copy.ids:
        return None
    return found.size_bytes


def remove_image(copy: EngineCopy, cli: DockerCli) -> str | None:
    """Takes the name off the image, which goes if it has no other; why not, or None.

    Raises RelforgeError (ENVIRONMENT) when the engine does not do it for another reason.
    """
    done = proc.run(
        cli.argv("image", "rm", copy.name),
        code=ExitCode.ENVIRONMENT,
        env=cli.environment,
        check=False,
        timeout_s=300,
    )
    if done.returncode == 0 or b"No such image" in done.stderr:
        return None
    said = done.stderr.decode(errors="replace").strip()
    if any(words in said for words in _IN_USE):
        return f"image {copy.name} stays: a container uses it"
    raise proc.failure(
        done, code=ExitCode.ENVIRONMENT, what=f"the engine could not remove {copy.name}",
        hint="relforge doctor",
    )  # fmt: skip


def unused_cache(
    cli: DockerCli,
    older_than_s: float,
    *,
    marks: Sequence[re.Pattern[str]] = MARKS,
    cancel: CancelToken | None = None,
) -> tuple[list[CacheRecord], list[CacheRecord]]:
    """The records that show marks of relforge's and were not used for that long, those first that
    others do not stand on; and all other records."""
    ours: dict[str, prune.Record] = {}
    others = []
    for one in prune.records(cli, cancel):
        old = _unused_s(one) >= older_than_s
        if old and any(mark.search(one.text) for mark in marks):
            ours[one.id] = one
        else:
            others.append(_shown(one))
    return [_shown(ours[one]) for one in prune.heirs_first(ours)], others


def prune_cache(
    cli: DockerCli,
    found: Sequence[CacheRecord],
    older_than_s: float,
    *,
    line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> list[CacheRecord]:
    """Has BuildKit remove these, unless they were used meanwhile; returns what is gone.

    A record that another one stands on stays, whoever made that one.
    """
    for one in found:
        prune.prune_record(cli, one.id, cancel, unused_s=older_than_s)
    left = {one.id for one in prune.records(cli, cancel)}
    if kept := sum(one.id in left for one in found):
        line(f"{kept} records of BuildKit's cache stay: others stand on them, or a build uses them")
    return [one for one in found if one.id not in left]


def _shown(record: prune.Record) -> CacheRecord:
    try:
        size = size_bytes(record.size, "Size")
    except RelforgeError:
        size = 0
    return CacheRecord(record.id, record.description, size, _unused_s(record))


def _unused_s(record: prune.Record) -> float:
    """``14 hours ago`` in seconds; what is not understood counts as just now.

    buildx rounds: so it is only who may be asked for. BuildKit itself is told the age, too.
    """
    text = record.last_used
    if not text:
        return _since(record.created)
    found = _AGE.match(text.strip())
    if found is None:
        return 0.0
    number = int(found[1]) if found[1] else 0 if text.lower().startswith("less") else 1
    return float(number * _UNIT_S[found[2].lower()])


def _since(created: str) -> float:
    """Of ``2026-11-29 12:32:31.50978732 +0000 UTC``; likewise."""
    try:
        made = datetime.strptime(created[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return 0.0
    return max(0.0, time.time() - made.timestamp())
