"""SIGTERM as an exception, so that ``finally`` blocks run when the program is ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(SystemExit):
    """SIGTERM arrived; ends the program with the shell's number for it (143)."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@contextmanager
def terminated_as_exception() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated, unless the program handles it already.

    Python only lets the main thread set handlers; elsewhere this does nothing, and the program's
    own handler (which sets the cancel token) is in charge.
    """
    untouched = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not untouched or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
