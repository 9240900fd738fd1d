"""The same work on slices of a long list, in processes that share what was loaded before.

For work that only reads: what a slice gives comes back pickled, and nothing else does.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

FEWEST_EACH = 100
"""Below this a process costs more than it brings."""
MOST_PROCESSES = 2
"""Each takes some 100 MB: two hold a plan of ten thousand releases below 300."""


def processes_for(items: int) -> int:
    """How many processes work on so many items: one where threads forbid to fork."""
    if threading.active_count() > 1:
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), MOST_PROCESSES, items // FEWEST_EACH))


def in_slices(
    items: Sequence[ItemT],
    work: Callable[[Sequence[ItemT]], ResultT],
    *,
    processes: int | None = None,
) -> Iterator[ResultT]:
    """*work* of contiguous slices of *items*, in their order; the first slice is this process's.

    Without ``processes``: as many as ``processes_for`` says. A slice whose process fails is done
    again here, so that its exception, or its result, is that of a plain call. Must be called while
    this process has one thread.
    """
    count = max(1, min(processes or processes_for(len(items)), len(items)))
    edges = [len(items) * number // count for number in range(count + 1)]
    slices = [items[start:end] for start, end in pairwise(edges)]
    children = [(_fork(part, work), part) for part in slices[1:]]
    try:
        yield work(slices[0])
        for child, part in children:
            answer = child.answer()
            yield work(part) if answer is None else pickle.loads(answer)  # noqa: S301 (our own)
    finally:
        for child, _part in children:
            child.end()


class _Child:
    """A process that works on one slice, and the pipe that its result comes through."""

    def __init__(self, pid: int, reading: int) -> None:
        self.pid: int | None = pid
        self.reading = reading

    def answer(self) -> bytes | None:
        """Everything it wrote, or None when it did not end well."""
        with os.fdopen(self.reading, "rb", closefd=False) as pipe:
            told = pipe.read()
        assert self.pid is not None
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        return told if status == 0 else None

    def end(self) -> None:
        """Ends it when its answer is not wanted any more."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None
        os.close(self.reading)


def _fork(items: Sequence[Any], work: Callable[[Sequence[Any]], Any]) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(pid, reading)
    status = 1
    try:
        os.close(reading)
        # Ctrl-C is for the parent, which ends its children.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answer = pickle.dumps(work(items))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        status = 0
    finally:
        # Never back into the caller's code: that is the parent's.
        os._exit(status)
