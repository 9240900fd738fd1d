"""What this host sent where: one small file for each release, beside the results.

It decides nothing: a target itself says what it has. It is for people (where did this go, and
when), for ``withdraw``, which by default goes to every place that a release went to, and for saying
after a kill which target was being worked on.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock, write_atomic
from relforge.frozen import Frozen
from relforge.publishing.published import Published
from relforge.publishing.target import Delivery, Step


class Entry(Frozen):
    """One step of one digest at one target. ``time_s`` is in seconds UTC."""

    image_digest: str
    target: str
    step: Step
    place: str
    state: Literal["begun", "done", "undone"]
    references: tuple[str, ...] = ()
    serial: int | None = None
    """Of the signed statement that went along."""
    reason: str = ""
    """Of a withdrawal."""
    time_s: float


class Journal:
    """The notes in ``<home>/publications``."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "publications"

    def entries(self, release: str) -> tuple[Entry, ...]:
        """Oldest first; the last of a digest, target and step counts."""
        path = self.path(release)
        try:
            rows = json.loads(path.read_bytes())
            return tuple(Entry.model_validate(row) for row in rows)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError, ValidationError) as error:
            raise RelforgeError(
                "the notes about earlier publications cannot be read",
                code=ExitCode.ENVIRONMENT,
                where=str(path),
                why=str(error).splitlines()[0],
                hint="move the file away: targets are asked again, only the history is lost",
            ) from error

    def begin(self, published: Published, target: str, step: Step, place: str) -> None:
        """Before anything is sent."""
        self._put(
            published.release,
            Entry(
                image_digest=published.image_digest,
                target=target,
                step=step,
                place=place,
                state="begun",
                time_s=time.time(),
            ),
        )

    def end(self, published: Published, delivery: Delivery, reason: str = "") -> None:
        """After the target has it."""
        self._put(published.release, _entry(published, delivery, "done", reason))

    def undo(self, published: Published, delivery: Delivery) -> None:
        """After it was taken back."""
        self._put(published.release, _entry(published, delivery, "undone", ""))

    def targets(self, release: str) -> tuple[str, ...]:
        """Where the release was sent, or may have been."""
        names = [one.target for one in self.entries(release) if one.state != "undone"]
        return tuple(dict.fromkeys(names))

    def _put(self, release: str, entry: Entry) -> None:
        with held_lock(self.folder / "locks" / "journal"):
            same = (entry.image_digest, entry.target, entry.step)
            kept = [
                one
                for one in self.entries(release)
                if (one.image_digest, one.target, one.step) != same
            ]
            rows = [one.model_dump(mode="json") for one in (*kept, entry)]
            write_atomic(self.path(release), json.dumps(rows, indent=1).encode() + b"\n")

    def path(self, release: str) -> Path:
        """The file of a release."""
        return self.folder / f"{release}.json"


def _entry(
    published: Published, delivery: Delivery, state: Literal["done", "undone"], reason: str
) -> Entry:
    return Entry(
        image_digest=delivery.image_digest,
        target=delivery.target,
        step=delivery.step,
        place=delivery.place,
        state=state,
        references=delivery.references,
        serial=published.serial,
        reason=reason,
        time_s=time.time(),
    )
