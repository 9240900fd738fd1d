"""A model's pinned files from a hub into the store: only what is missing, several at a time."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, held_lock, sha256_file
from relforge.manifest.site import Site
from relforge.manifest.weights import PinnedFile
from relforge.ui.text import size
from relforge.weights.client import HubClient, Listed
from relforge.weights.faults import Repository
from relforge.weights.store import WeightStore
from relforge.workarea import work_area

_AT_ONCE = 4


@dataclass(frozen=True)
class _Wanted:
    """One content; ``path`` is one of the names that the repository has for it."""

    path: str
    sha256: str
    size_bytes: int


def fetch_missing(
    repository: Repository,
    pinned: Mapping[str, PinnedFile],
    *,
    store: WeightStore,
    home: Path,
    site: Site,
    cancel: CancelToken,
    line: Callable[[str], None],
) -> None:
    """Sees to it that the store has every pinned file; asks nobody when it has.

    What an interrupted fetch left is continued. Raises RelforgeError: SOURCE when the hub has not
    what is pinned or does not give it, ENVIRONMENT when this host is not ready; Cancelled.
    """
    wanted = {
        file.sha256: _Wanted(path, file.sha256, file.size_bytes)
        for path, file in sorted(pinned.items(), reverse=True)
    }
    missing = [one for one in wanted.values() if store.lookup(one.sha256) is None]
    for one in wanted.values():
        if one not in missing:
            # A run that was killed between taking a file in and clearing up.
            store.drop_incoming(one.sha256)
    if not missing:
        line(f"all {len(pinned)} files are in the store")
        return
    said = _in_turn(line)
    with work_area(home, "weights") as scratch:
        client = HubClient(repository, site, scratch)
        said(f"{repository}, from {client.endpoint}")
        _compare(client, pinned, client.look(cancel, said))
        _refuse_full_disk(store, missing, repository)
        with _pool(cancel) as (pool, linked):
            futures = [pool.submit(_one, client, one, store, linked, said) for one in missing]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            cancel.check()
            for future in done:
                future.result()


def _one(
    client: HubClient,
    wanted: _Wanted,
    store: WeightStore,
    cancel: CancelToken,
    line: Callable[[str], None],
) -> None:
    sha256, path = wanted.sha256, wanted.path
    purpose = f"fetching {path} of {client.repository.name}"
    with held_lock(store.lock(sha256), purpose=purpose, on_wait=line, cancel=cancel):
        if store.lookup(sha256) is not None:
            line(f"{path}: another run has fetched it")
            return
        incoming = store.incoming(sha256)
        before = store.incoming_bytes(sha256)
        line(f"{path}: {size(wanted.size_bytes)}" + (f", {size(before)} are here" * bool(before)))
        try:
            incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(incoming, error) from error
        found = ""
        for again in (True, False):
            fetched = incoming / path
            # A run that was killed while it hashed has left the whole file.
            if not fetched.is_file() or fetched.stat().st_size != wanted.size_bytes:
                client.fetch(path, wanted.size_bytes, incoming, cancel, line)
            found = sha256_file(fetched)
            if found == sha256:
                store.add(sha256, fetched)
                store.drop_incoming(sha256)
                line(f"{sha256}  {path}")
                return
            store.drop_incoming(sha256)
            if not (again and before):
                break
            # What an earlier run left may have been damaged when its machine went down.
            line(f"{path}: what was here did not fit, fetching all of it")
            incoming.mkdir(parents=True, exist_ok=True)
        raise _not_pinned(client, path, f"expected sha256 {sha256}, got {found}")


def _compare(
    client: HubClient, pinned: Mapping[str, PinnedFile], listing: tuple[Listed, ...]
) -> None:
    """Before anything is fetched: does the hub have what is pinned, as far as it tells."""
    there = {file.path: file for file in listing}
    for path, pin in sorted(pinned.items()):
        listed = there.get(path)
        if listed is None:
            raise RelforgeError(
                f"weights of {client.repository.subject}: {client.repository.name} has no file "
                f"{path}",
                code=ExitCode.SOURCE,
                where=_where(client),
                why=f"at that revision it has {len(there)} files",
                hint="correct weights.files in the model manifest",
            )
        if listed.sha256 is not None and listed.sha256 != pin.sha256:
            raise _not_pinned(client, path, f"expected sha256 {pin.sha256}, got {listed.sha256}")
        if listed.size_bytes is not None and listed.size_bytes != pin.size_bytes:
            raise _not_pinned(
                client, path, f"expected {pin.size_bytes} bytes, the hub has {listed.size_bytes}"
            )


def _where(client: HubClient) -> str:
    return f"{client.endpoint}/{client.repository.name} at {client.repository.revision}"


def _not_pinned(client: HubClient, path: str, why: str) -> RelforgeError:
    return RelforgeError(
        f"weights of {client.repository.subject}: {path} is not the pinned file",
        code=ExitCode.SOURCE,
        where=_where(client),
        why=why,
        hint="do not use that copy; if the manifest is wrong, pin the hash and size that the "
        "model's owner publishes",
    )


def _refuse_full_disk(store: WeightStore, missing: list[_Wanted], repository: Repository) -> None:
    needed = sum(max(0, w.size_bytes - store.incoming_bytes(w.sha256)) for w in missing)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(store.folder, error) from error
    free = shutil.disk_usage(store.folder).free
    if needed > free:
        raise RelforgeError(
            f"weights of {repository.subject}: the disk is too small",
            code=ExitCode.ENVIRONMENT,
            where=str(store.folder),
            why=f"{size(needed)} are to be fetched, {size(free)} are free",
            hint="free disk space, or set another home in the site configuration",
        )


@contextmanager
def _pool(cancel: CancelToken) -> Iterator[tuple[ThreadPoolExecutor, CancelToken]]:
    """Threads that are stopped, and waited for, on every way out."""
    # The first fault ends the other fetches, not the run.
    linked = cancel.child()
    pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="weights")
    try:
        yield pool, linked
    finally:
        linked.cancel("another file failed")
        pool.shutdown(wait=True, cancel_futures=True)


def _in_turn(line: Callable[[str], None]) -> Callable[[str], None]:
    """*line* for several threads."""
    lock = threading.Lock()

    def said(text: str) -> None:
        with lock:
            line(text)

    return said
