"""The same work on slices of a long list, in processes that share what was loaded before.

For work that only reads: what a slice gives comes back pickled, and nothing else does.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

FEWEST_EACH = 100
"""Below this a process costs more than it brings."""
MOST_PROCESSES = 3
"""Each has some 70 MB, as the one that gathers: a plan of ten thousand releases stays below 300
even though they share much of it."""
SLICE = 50
"""Items whose result is kept at a time: neither memory nor a pipe grows with the list."""
_PIPE_BYTES = 1 << 20
"""How far a process may be ahead of the reader: Linux gives this much to anybody."""
_LENGTH_BYTES = 8


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
    """*work* of contiguous slices of *items*, in their order; the slices are dealt in turn to
    processes, whose results this one gathers.

    Without ``processes``: as many as ``processes_for`` says; one is this one. A slice that another
    process does not answer is done here, as all of its later ones, so that its exception, or its
    result, is that of a plain call. Must be called while this process has one thread.
    """
    count = max(1, min(processes or processes_for(len(items)), len(items)))
    each = min(SLICE, -(-len(items) // count)) or 1
    slices = [items[start : start + each] for start in range(0, len(items), each)]
    count = min(count, len(slices))
    children = [_fork(slices[number::count], work) for number in range(count)] if count > 1 else []
    try:
        for number, part in enumerate(slices):
            answer = children[number % count].answer() if children else None
            # Our own process wrote it.
            yield work(part) if answer is None else pickle.loads(answer)  # noqa: S301
    finally:
        for child in children:
            child.end()


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Plans hold no cycles to speak of; looking for them takes a third of the time."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class _Child:
    """A process that works on slices, and the pipe that its results come through."""

    def __init__(self, pid: int, pipe: BinaryIO) -> None:
        self.pid = pid
        self.pipe = pipe

    def answer(self) -> bytes | None:
        """Its next result, or None when it ended before it had told it."""
        length = self.pipe.read(_LENGTH_BYTES)
        told = self.pipe.read(int.from_bytes(length, "big"))
        whole = len(length) == _LENGTH_BYTES and len(told) == int.from_bytes(length, "big")
        return told if whole else None

    def end(self) -> None:
        """Ends it, when its answers are not wanted any more, or it has told them all."""
        self.pipe.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _fork(slices: Sequence[Sequence[Any]], work: Callable[[Sequence[Any]], Any]) -> _Child:
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(pid, os.fdopen(reading, "rb"))
    status = 1
    try:
        os.close(reading)
        # Ctrl-C is for the parent, which ends its children.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with os.fdopen(writing, "wb") as pipe:
            for part in slices:
                answer = pickle.dumps(work(part))
                pipe.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
                pipe.flush()
        status = 0
    finally:
        # Never back into the caller's code: that is the parent's.
        os._exit(status)
