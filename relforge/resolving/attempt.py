"""Resolving one part after the other, where some of them may be out of reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from relforge.errors import ExitCode, RelforgeError

PartT = TypeVar("PartT")
OnLine = Callable[[str], None]


class Attempt:
    """One part of a lock after the other; with ``partial`` one that fails is said and left out."""

    def __init__(self, partial: bool, on_line: OnLine) -> None:
        self.partial, self._on_line = partial, on_line

    def __call__(self, what: str, action: Callable[[], PartT]) -> PartT | None:
        try:
            return action()
        except RelforgeError as error:
            # A mistake in a manifest is no matter of where one stands.
            if not self.partial or error.code not in (ExitCode.SOURCE, ExitCode.ENVIRONMENT):
                raise
            why = "; ".join((error.why or "").splitlines()[:1])
            self._on_line(f"{what}: unresolved: {error.what}" + (f" ({why})" if why else ""))
            return None
