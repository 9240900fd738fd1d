"""A folder that releases are put into, one thing for each: how it gets there, and how it goes.

::

    <path>/<release>                     what people take
    <path>/.relforge/candidate/<name>    what waits, with the digest's first 12 digits in its name
    <path>/.relforge/before/<release>    what the last promotion replaced

A file gets its place by one rename: people find the old one or the new one, whole. A folder takes
two, the old one's and the new one's; nobody ever finds half of one.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, held_lock, remove_tree, sync_folder
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Delivery, Doing, Step, TargetPlan

_OWN = ".relforge"


class ShelfTarget(ABC):
    """What folders and tars have in common as targets."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path

    @property
    def name(self) -> str:
        return self._name

    def place(self, published: Published) -> str:
        return str(self._shelf(published).final)

    def plan(self, published: Published, step: Step) -> TargetPlan:
        return TargetPlan(
            target=self._name, step=step, place=self.place(published),
            changes=self._changes(published, step),
        )  # fmt: skip

    def apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        with self._alone(published, step, doing):
            return self._apply(published, step, doing)

    def undo(self, published: Published, delivery: Delivery, doing: Doing) -> None:
        with self._alone(published, delivery.step, doing):
            self._undo(published, delivery)

    @contextmanager
    def _alone(self, published: Published, step: Step, doing: Doing) -> Iterator[None]:
        """Publishers of other homes, and of other hosts where the file system can lock, wait."""
        purpose = f"{step} of {published.release}"
        with ExitStack() as stack:
            try:
                stack.enter_context(
                    held_lock(
                        self._path / _OWN / "lock",
                        purpose=purpose,
                        on_wait=doing.line,
                        cancel=doing.cancel,
                    )
                )
            except OSError as error:
                raise cannot_write(self._path, error) from error
            yield

    @abstractmethod
    def _apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        """Does a step; what is done already is left as it is."""

    @abstractmethod
    def _undo(self, published: Published, delivery: Delivery) -> None:
        """Takes a delivery back."""

    @abstractmethod
    def _shelf(self, published: Published) -> Shelf:
        """Where the release goes on it."""

    @abstractmethod
    def _changes(self, published: Published, step: Step) -> tuple[Change, ...]:
        """What the step would do now."""


class Shelf:
    """``name`` is that of one release on it, ``digest`` the image's, ``suffix`` that of a file."""

    def __init__(self, path: Path, name: str, digest: str, suffix: str = "") -> None:
        short = digest.removeprefix("sha256:")[:12]
        self.path = path
        self.final = path / f"{name}{suffix}"
        self.waiting = path / _OWN / "candidate" / f"{name}-{short}{suffix}"
        self.before = path / _OWN / "before" / f"{name}{suffix}"

    def promote(self) -> None:
        """Puts what waits where people look; what was there is kept. Raises RelforgeError."""
        try:
            if self.final.is_file():
                self.before.parent.mkdir(parents=True, exist_ok=True)
                self.before.unlink(missing_ok=True)
                self.before.hardlink_to(self.final)
            elif self.final.exists():
                self._move(self.final, self.before)
            self._move(self.waiting, self.final)
        except OSError as error:
            raise cannot_write(self.final, error) from error

    def restore(self) -> None:
        """After a promotion: back to waiting, and what it replaced back to its place."""
        try:
            if self.final.exists():
                self._move(self.final, self.waiting)
            if self.before.exists():
                self._move(self.before, self.final)
        except OSError as error:
            raise cannot_write(self.final, error) from error

    def drop_waiting(self) -> None:
        """Removes what waits."""
        self._remove(self.waiting)

    def drop_final(self) -> None:
        """Takes what people see away: out of sight at once, then it is deleted."""
        if not self.final.exists():
            return
        gone = self.before.with_name(f"withdrawn-{self.final.name}")
        try:
            self._move(self.final, gone)
        except OSError as error:
            raise cannot_write(self.final, error) from error
        self._remove(gone)

    def require_room(self, needed_bytes: int) -> None:
        """Raises RelforgeError (ENVIRONMENT) where it cannot fit."""
        place = self.path
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < needed_bytes:
            raise RelforgeError(
                "the disk has no room for the release",
                code=ExitCode.ENVIRONMENT,
                where=str(self.path),
                why=f"{needed_bytes} bytes are needed, {free} are free",
                hint="free disk space, then run the same command again",
            )

    def _move(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and source.is_dir():
            # A folder is not renamed over a full one.
            remove_tree(target)
        os.replace(source, target)  # noqa: PTH105
        for folder in {source.parent, target.parent}:
            sync_folder(folder)

    def _remove(self, path: Path) -> None:
        try:
            remove_tree(path)
        except OSError as error:
            raise cannot_write(path, error) from error
