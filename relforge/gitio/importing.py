"""Files on their way into a repository: the stream that ``git fast-import`` reads."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable
from typing import IO

from relforge.gitio.entries import TreeFile, quoted


class Feeder(threading.Thread):
    """Writes git fast-import's stream (its manual page is the format) into a pipe."""

    def __init__(self, fd: int, files: Iterable[TreeFile]) -> None:
        super().__init__(name="fast-import", daemon=True)
        self._fd = fd
        self._files = files
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            # A reader that is gone has its own, better reason: git's exit status.
            with contextlib.suppress(BrokenPipeError), os.fdopen(self._fd, "wb", 1 << 20) as out:
                self._write(out)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self.error = error

    def _write(self, out: IO[bytes]) -> None:
        ref = b"refs/relforge/importing"
        out.write(b"feature done\ncommit " + ref + b"\nmark :1\n")
        out.write(b"committer relforge <relforge@invalid> 1 +0000\ndata 0\n\n")
        for file in self._files:
            path = quoted(file.path.encode("utf-8", "surrogateescape"))
            out.write(b"M " + file.mode.encode() + b" inline " + path + b"\n")
            if isinstance(file.data, bytes):
                out.write(b"data %d\n" % len(file.data))
                out.write(file.data)
            else:
                with file.data.open("rb") as source:
                    out.write(b"data %d\n" % os.fstat(source.fileno()).st_size)
                    shutil.copyfileobj(source, out, 1 << 20)
            out.write(b"\n")
        # The branch is only fast-import's handle; it goes again, so that two imports never meet.
        out.write(b"get-mark :1\nreset " + ref + b"\nfrom " + b"0" * 40 + b"\n\ndone\n")
