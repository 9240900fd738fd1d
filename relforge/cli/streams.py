"""Standard output and standard error, as the verbs may rely on them."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class _Told(io.TextIOWrapper):
    """Standard error. When it cannot be written, such as to a file on a full disk, what would be
    said there is lost; what is done goes on, and its exit code says how it ended."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise  # whoever read along has gone, and wants the command to end, too
        except OSError:
            discard(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError:
            discard(self)


def prepare() -> None:
    """Output never fails for its encoding, nor because a caller closed it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def forgive() -> None:
    """Standard error becomes one that never fails, but for a reader that goes away."""
    stream = sys.stderr
    if type(stream) is io.TextIOWrapper:
        encoding, through = stream.encoding, stream.write_through
        sys.stderr = _Told(
            stream.detach(), encoding, "replace", line_buffering=True, write_through=through
        )


def discard(stream: TextIO) -> None:
    """What is still to be written to it, or will be, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
