"""What an attempt asks of the driver's desk; each call waits for its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import Cancelled
from relforge.executor.ray_desk import CHUNK_BYTES

_AHEAD = 3
"""Chunks on their way at once: one is written while the next ones come."""


@dataclass(frozen=True)
class DeskCalls:
    """``desk`` is the handle of the driver's actor."""

    desk: Any
    job: str
    attempt: str
    host: str
    node_id: str
    cancel: CancelToken

    def begin(self) -> None:
        """Raises Cancelled where nobody waits for this job any more."""
        self._ask(self.desk.begin.remote(self.job, self.attempt, self.host, self.node_id))

    def tell(self, events: Sequence[dict[str, Any]]) -> None:
        self._ask(self.desk.tell.remote(self.job, self.attempt, list(events)))

    def fetch(self, sha256: str, size_bytes: int) -> Iterator[bytes]:
        """A file in chunks."""
        offsets = list(range(0, size_bytes, CHUNK_BYTES))
        waiting: list[Any] = []
        for offset in (*offsets, *([None] * _AHEAD)):
            if offset is not None:
                waiting.append(
                    self.desk.read.remote(
                        self.job, self.attempt, self.host, sha256, offset, CHUNK_BYTES
                    )
                )
            if waiting and (offset is None or len(waiting) >= _AHEAD):
                yield self._ask(waiting.pop(0))

    def objects(self, names: Sequence[str]) -> list[str]:
        found: list[str] = self._ask(self.desk.objects.remote(self.job, self.attempt, list(names)))
        return found

    def pack(self, objects: Sequence[str]) -> tuple[str, int]:
        made: tuple[str, int] = self._ask(
            self.desk.pack.remote(self.job, self.attempt, list(objects))
        )
        return made

    def lacks(self, files: Sequence[tuple[Path, str, int]]) -> list[str]:
        found: list[str] = self._ask(self.desk.lacks.remote(self.job, self.attempt, list(files)))
        return found

    def send(self, path: Path, sha256: str) -> None:
        """A file to the driver."""
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            while True:
                self.cancel.check()
                data = file.read(CHUNK_BYTES)
                last = file.tell() >= size_bytes
                self._ask(
                    self.desk.write.remote(
                        self.job, self.attempt, self.host, sha256, data, last=last
                    )
                )
                if last:
                    return

    def _ask(self, ref: Any) -> Any:
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        from relforge.executor.ray_desk import Refused

        try:
            return ray.get(ref)
        except RayActorError as error:
            raise Cancelled("the driver is gone") from error
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, Refused):
                raise Cancelled(str(cause)) from None
            raise cause from error
