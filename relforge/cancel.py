"""The token that ends a run early: set once, asked between steps."""

from __future__ import annotations

import threading
import weakref

from relforge.errors import Cancelled


class CancelToken:
    """Set once by Ctrl-C, a time limit or a failing neighbour; stages ask it between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()
        # A signal may come while this very thread holds the lock.
        self._lock = threading.RLock()
        self._children: weakref.WeakSet[CancelToken] = weakref.WeakSet()
        self.reason = ""

    def cancel(self, reason: str) -> None:
        with self._lock:
            self.reason = self.reason or reason
            self._event.set()
            children = list(self._children)
        for child in children:
            child.cancel(reason)

    def child(self) -> CancelToken:
        """A token that is set with this one, and can be set alone."""
        one = CancelToken()
        with self._lock:
            self._children.add(one)
            cancelled = self.cancelled
        if cancelled:
            one.cancel(self.reason)
        return one

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises Cancelled when the token is set."""
        if self.cancelled:
            raise Cancelled(self.reason)

    def sleep(self, seconds: float) -> None:
        """Waits, but wakes at once and raises Cancelled when the token is set."""
        if self._event.wait(seconds):
            raise Cancelled(self.reason)
