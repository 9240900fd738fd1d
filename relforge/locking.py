"""Locks of many releases: made, or compared with their manifests. One that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.explaining import differences
from relforge.frozen import Frozen
from relforge.lock import Lock, NotAsLocked, lock_path, write_lock
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.subject import subject

Resolve = Callable[[Release], Lock]
OnError = Callable[[RelforgeError], None]
_MOST_SHOWN = 4


class LockRow(Frozen):
    """One release's lock.

    ``fits``: it was made for this manifest and these patch sets; what it pins was not looked at.
    ``failed``: the release cannot be read, or not be resolved here; ``exit_code`` is the failure's.
    """

    release: str
    lock: str | None
    state: Literal["written", "unchanged", "fits", "missing", "stale", "failed"]
    why: str | None = None
    hint: str | None = None
    exit_code: int = 0


class LockOutput(Frozen):
    """What ``relforge lock --json`` prints; stable."""

    locks: tuple[LockRow, ...]

    @property
    def exit_code(self) -> int:
        """2 where a lock is missing or stale, else that of the first failure."""
        if any(row.state in ("missing", "stale") for row in self.locks):
            return int(ExitCode.USAGE)
        return next((row.exit_code for row in self.locks if row.exit_code), 0)


def make_locks(
    project: Project, names: Sequence[str], resolve: Resolve, on_error: OnError
) -> Iterator[LockRow]:
    """Resolves the named releases and writes their locks; *on_error* gets what a row shortens."""
    for name in names:
        try:
            release = project.release(name)
            changed = write_lock(project, release, resolve(release))
        except RelforgeError as error:
            yield _failed(project, name, error, on_error)
        else:
            state: Literal["written", "unchanged"] = "written" if changed else "unchanged"
            yield LockRow(release=name, lock=str(lock_path(project, release)), state=state)


def check_locks(
    project: Project,
    site: Site,
    names: Sequence[str],
    resolve: Resolve | None,
    on_error: OnError,
) -> Iterator[LockRow]:
    """Compares the named releases with their locks; writes none.

    First all that the manifests and patch sets tell by themselves, then, for those that fit, what
    *resolve* finds now. Without it that is left out.
    """
    fitting: list[tuple[Release, Lock]] = []
    for name in names:
        try:
            release = project.release(name)
            fitting.append((release, subject(project, release, site).lock))
        except RelforgeError as error:
            yield _failed(project, name, error, on_error)
    for release, lock in fitting:
        path = str(lock_path(project, release))
        if resolve is None:
            yield LockRow(release=release.name, lock=path, state="fits")
            continue
        try:
            found = differences(
                lock.model_dump(mode="json"), resolve(release).model_dump(mode="json")
            )
        except RelforgeError as error:
            yield _failed(project, release.name, error, on_error)
            continue
        if not found:
            yield LockRow(release=release.name, lock=path, state="unchanged")
            continue
        more = len(found) - _MOST_SHOWN
        yield LockRow(
            release=release.name,
            lock=path,
            state="stale",
            why="; ".join(found[:_MOST_SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            hint=f"relforge lock --release {release.name}",
            exit_code=int(ExitCode.USAGE),
        )


def _failed(project: Project, name: str, error: RelforgeError, on_error: OnError) -> LockRow:
    manifest = project.release_files.get(name)
    path = manifest.with_name(f"{name}.lock.yaml") if manifest else None
    state: Literal["missing", "stale", "failed"] = "failed"
    # A lock that cannot be read says so at a line of its own.
    if isinstance(error, NotAsLocked) or (path and (error.where or "").startswith(str(path))):
        state = "stale" if path and path.is_file() else "missing"
    else:
        on_error(error)
    reason = (error.why or "").splitlines()[:1]
    return LockRow(
        release=name,
        lock=str(path) if path else None,
        state=state,
        why=": ".join((error.what, *reason)),
        hint=error.hint,
        exit_code=int(error.code),
    )
