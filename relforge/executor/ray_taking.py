"""What came back from a worker, put where it would lie if the job had run here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.engine.blobs import link_or_copy
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_agent import Answer
from relforge.executor.ray_paths import Places, moved, outputs_in, stamped
from relforge.executor.ray_shared import LargeFiles
from relforge.executor.ray_store import room_for, write_checked
from relforge.executor.ray_worksite import full_disk
from relforge.files import cannot_write, stamp, sync_folder
from relforge.stage import StageResult


def take_in(answer: Answer, incoming: Path, places: Places) -> Answer:
    """The answer with this host's paths, its files in their places; ``incoming`` has what came.

    Only now does the driver's home change: an attempt that another one replaced leaves nothing.
    Raises RelforgeError (ENVIRONMENT) when the disk is full, or a file did not come.
    """
    folders = set()
    for file in answer.files:
        path = places.here(file.path)
        if not path.is_relative_to(places.home):
            raise _did_not_come(answer.host, path, "it does not belong into relforge's home")
        came = incoming / file.sha256
        try:
            if came.is_file():
                # Releases whose jobs end at once may name one file.
                with room_for(path, places.home) as room:
                    link_or_copy(came, room / "file")
                    (room / "file").replace(path)
                folders.add(path.parent)
            elif not path.is_file():
                raise _did_not_come(answer.host, path, "the worker did not send it")
        except OSError as error:
            raise cannot_write(path, error) from error
    for folder in folders:
        sync_folder(folder)
    outcome = answer.outcome
    if isinstance(outcome, StageResult):
        hashes = {places.here(file.path): file.sha256 for file in answer.files if file.output}
        here = moved(outcome, places.here)
        for output in outputs_in(here):
            if output.path not in hashes and not output.path.is_file():
                raise _did_not_come(answer.host, output.path, "the result names it")
        stamps = {path: stamp(path, sha256=sha256) for path, sha256 in hashes.items()}
        return replace(answer, outcome=stamped(here, stamps))
    if isinstance(outcome, RelforgeError) and outcome.log is not None:
        outcome.log = str(places.here(Path(outcome.log)))
    return answer


class NotShared(Exception):
    """What a worker put in the place for large files cannot be had from there."""


def fetch_shared(answer: Answer, incoming: Path, large: LargeFiles, cancel: CancelToken) -> None:
    """Brings what the worker put in the place for large files to where ``take_in`` looks.

    Raises NotShared where it is not there, or is another file; Cancelled; RelforgeError
    (ENVIRONMENT) when this host cannot write it.
    """
    for file in answer.files:
        if not file.shared or (incoming / file.sha256).is_file():
            continue
        chunks = large.read(file.sha256, file.size_bytes)
        if chunks is None:
            raise NotShared
        try:
            incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(incoming, error) from error
        try:
            write_checked(incoming / file.sha256, file.sha256, chunks, cancel)
        except RelforgeError as error:
            if full_disk(error):
                raise
            large.failed(file.sha256, error)
            raise NotShared from error


def _did_not_come(host: str, path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        f"a file of the job did not come from {host}",
        code=ExitCode.ENVIRONMENT,
        where=str(path),
        why=why,
        hint="run the same command again",
    )
