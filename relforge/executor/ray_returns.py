"""What a job made, on its way to the driver: outputs by hash, and the files of its run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relforge.executor.ray_calls import DeskCalls
from relforge.executor.ray_paths import HOME, Places, outputs_in
from relforge.executor.ray_shared import LargeFiles
from relforge.executor.ray_store import WorkerFiles
from relforge.files import sha256_file
from relforge.frozen import Frozen
from relforge.stage import Job, StageResult

_LARGEST_LOG_BYTES = 256 << 20


class Returned(Frozen):
    """A file that the driver puts at its told ``path``; it is there, or came in by its hash."""

    path: Path
    sha256: str
    size_bytes: int
    output: bool
    """False for a log, which no result names."""
    shared: bool = False
    """It lies in the place for large files."""


def give_back(
    job: Job[Any],
    result: StageResult | None,
    places: Places,
    home: Path,
    calls: DeskCalls,
    large: LargeFiles | None = None,
) -> tuple[Returned, ...]:
    """Sends what the driver has not: every output of the result that lies in this home, and what
    the job wrote into its run folder. Large outputs go to ``large`` where there is one. Raises
    Cancelled, OSError."""
    files = WorkerFiles(home, calls.cancel)
    found: dict[Path, Returned] = {}
    for output in outputs_in(result):
        told = places.told(output.path)
        # What came with the project, or lies elsewhere, is where it was.
        if told.is_relative_to(HOME):
            found[output.path] = Returned(
                path=told, sha256=output.sha256,
                size_bytes=output.size_bytes, output=True,
            )  # fmt: skip
    for path in _written(job.env.run_dir):
        if path not in found:
            found[path] = Returned(
                path=places.told(path), sha256=sha256_file(path),
                size_bytes=path.stat().st_size, output=False,
            )  # fmt: skip
    if not found:
        return ()
    lacking = set(calls.lacks([(one.path, one.sha256, one.size_bytes) for one in found.values()]))
    for path, one in found.items():
        if one.output:
            files.keep(path, one.sha256)
        if one.sha256 in lacking:
            if one.output and large is not None and large.put(path, one.sha256, one.size_bytes):
                found[path] = one.model_copy(update={"shared": True})
            else:
                calls.send(path, one.sha256)
            lacking.discard(one.sha256)
    return tuple(found.values())


def _written(run_dir: Path) -> Iterator[Path]:
    """Logs, and what lies right in the run folder; work files of programs stay where they are.

    Nothing that is too large for a log.
    """
    for path in sorted({*run_dir.glob("*"), *(run_dir / "logs").rglob("*")}):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST_LOG_BYTES:
            yield path
