"""One lock in the making: for what, with what, and what to do where something cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.lock import Lock, lock_path
from relforge.manifest.device import Device
from relforge.manifest.loader import load
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site

PartT = TypeVar("PartT")
OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Resolving:
    """What every part of a lock is made with; with ``partial`` a part may stay unresolved."""

    project: Project
    release: Release
    device: Device
    site: Site
    home: Path
    line: OnLine
    cancel: CancelToken
    partial: bool

    def attempt(self, what: str, action: Callable[[], PartT]) -> PartT | None:
        """What *action* gives; None, and a line that says why, where it may stay unresolved."""
        try:
            return action()
        except RelforgeError as error:
            # A mistake in a manifest is no matter of where one stands.
            if not self.partial or error.code not in (ExitCode.SOURCE, ExitCode.ENVIRONMENT):
                raise
            why = "; ".join((error.why or "").splitlines()[:1])
            self.line(f"{what}: unresolved: {error.what}" + (f" ({why})" if why else ""))
            return None

    def before(self) -> Lock | None:
        """The lock that the release has, if it can be read."""
        path = lock_path(self.project, self.release)
        try:
            return load(path, Lock) if path.is_file() else None
        except RelforgeError:
            return None
