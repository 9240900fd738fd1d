"""The token that ends a run early: set once, asked between steps."""

from __future__ import annotations

import threading

from relforge.errors import Cancelled


class CancelToken:
    """Set once by Ctrl-C, a time limit or a failing neighbour; stages ask it between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def cancel(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises Cancelled when the token is set."""
        if self._event.is_set():
            raise Cancelled(self.reason)

    def sleep(self, seconds: float) -> None:
        """Waits, but wakes at once and raises Cancelled when the token is set."""
        if self._event.wait(seconds):
            raise Cancelled(self.reason)
