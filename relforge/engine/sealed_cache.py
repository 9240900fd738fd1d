"""Sealed sources in BuildKit's cache: noted before a build, pruned after it, however it ends.

While a build with sealed sources runs, a small file in ``<home>/prune`` says what of it the cache
will hold: names of contexts and beginnings of steps, nothing of their content. The build removes
it once the cache is pruned; after a ``kill -9`` it is still there, and the next run that talks to
the engine does what it says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from relforge.engine.client import connect
from relforge.engine.prune import prune_source_cache
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sync_folder
from relforge.frozen import Frozen, canonical_json
from relforge.leftovers import left_behind, owned_file
from relforge.manifest.site import EngineSite

_TRIES = 5
_PAUSE_S = 1.0
_UNFINISHED = ".note"
_HINT = "docker buildx prune --all removes the whole cache"


class Note(Frozen):
    """What is to be pruned. ``engine`` is the engine's own id: a home may be used with several."""

    engine: str
    contexts: tuple[str, ...]
    steps: tuple[str, ...]


@contextmanager
def pruned_afterwards(
    contexts: tuple[str, ...],
    *,
    steps: tuple[str, ...],
    home: Path,
    site: EngineSite,
    line: Callable[[str], None],
) -> Iterator[None]:
    """Takes ``contexts`` and ``steps`` (see ``prune_source_cache``) out of the cache on leaving.

    Does nothing without ``contexts``. Raises RelforgeError (ENVIRONMENT) when the engine refuses,
    or when another build still holds them; the note then stays for the next run.
    """
    if not contexts:
        yield
        return
    note = Note(engine=_engine_id(site), contexts=contexts, steps=steps)
    descriptor, path = _write(home / "prune", note)
    try:
        try:
            yield
        finally:
            if in_use := _prune(note, site, line):
                raise RelforgeError(
                    "BuildKit's cache still holds sealed sources",
                    code=ExitCode.ENVIRONMENT,
                    why=f"records in use by another build: {', '.join(in_use)}",
                    hint="end the other build, then run the same command again: it prunes first",
                )
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def prune_left_behind(home: Path, *, site: EngineSite, line: Callable[[str], None]) -> None:
    """Does what the notes of killed builds say, and removes those that are done.

    What the engine refuses, or has in use, stays noted; ``line`` gets a warning.
    """
    try:
        found = sorted((home / "prune").iterdir())
    except OSError:
        return
    for path in found:
        with left_behind(path) as gone:
            if not gone:
                continue
            if path.name.startswith(_UNFINISHED):
                path.unlink(missing_ok=True)  # its build had not begun
                continue
            try:
                warning = _follow(path, site, line)
            except RelforgeError as error:
                warning = f"{error.what}: {error.why or error.where or ''}"
            if warning is None:
                path.unlink(missing_ok=True)
            else:
                line(
                    "warning: a build that was killed may have left sealed sources in BuildKit's "
                    f"cache ({path}): {warning}"
                )


def _follow(path: Path, site: EngineSite, line: Callable[[str], None]) -> str | None:
    """Prunes; returns why that is not done."""
    try:
        note = Note.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None  # another run has just done it
    except (OSError, ValidationError):
        return f"the note cannot be read; {_HINT}, then delete the note"
    if note.engine != _engine_id(site):
        return "that was another engine; run relforge with it, or delete the note if it is no more"
    line(f"a build of {', '.join(note.contexts)} was killed")
    if in_use := _prune(note, site, line):
        return f"another build uses {', '.join(in_use)}; the next run tries again"
    return None


def _prune(note: Note, site: EngineSite, line: Callable[[str], None]) -> tuple[str, ...]:
    """Returns what is still in use."""
    for attempt in range(_TRIES):
        if attempt:
            # A build that was cancelled or killed lets go of its records a moment later.
            time.sleep(_PAUSE_S)
        done = prune_source_cache(note.contexts, steps=note.steps, site=site)
        line(f"removed {done.removed} records of {', '.join(note.contexts)} from BuildKit's cache")
        if not done.in_use:
            break
    return done.in_use


def _write(folder: Path, note: Note) -> tuple[int, Path]:
    """The note, whole and locked from the moment it has its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = owned_file(folder, _UNFINISHED)
        try:
            os.write(descriptor, canonical_json(note))
            os.fsync(descriptor)
            path = fresh.with_name(fresh.name.replace(_UNFINISHED, "build", 1))
            fresh.rename(path)
            sync_folder(folder)
        except BaseException:
            os.close(descriptor)
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(folder, error) from error
    return descriptor, path


def _engine_id(site: EngineSite) -> str:
    from docker.errors import DockerException
    from requests import RequestException

    client = connect(site)
    try:
        return str(client.info()["ID"])
    except (DockerException, RequestException) as error:
        raise RelforgeError(
            "the engine does not say which one it is",
            code=ExitCode.ENVIRONMENT,
            why=str(error),
            hint="docker info shows its ID",
        ) from error
    finally:
        client.close()
