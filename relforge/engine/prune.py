"""Takes sealed sources out of BuildKit's cache after a build, and leaves the rest there.

BuildKit keeps what a build was given in two places. A named context lies in records described as
"local source for <name>": one of type ``source.local``, so that the next build sends only what
changed, and earlier states of it that steps have used, of type ``regular``: pruning by type alone
leaves those behind. A ``COPY --from=<context>`` keeps a copy in the record of its step, on which
the records of later steps stand. A context that is only
bind-mounted (``RUN --mount=type=bind,from=<context>``) leaves nothing but its first record: what
such a RUN itself writes outside a tmpfs stays, and is named by the caller with ``steps``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.cli import DockerCli, find_cli
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import EngineSite

_TIMEOUT_S = 300.0


class PruneResult(Frozen):
    """``removed`` counts records; ``in_use`` names those that another build holds just now."""

    removed: int
    in_use: tuple[str, ...]


@dataclass(frozen=True)
class _Record:
    id: str
    parents: tuple[str, ...]
    description: str


def prune_source_cache(
    contexts: Iterable[str],
    *,
    steps: Iterable[str] = (),
    site: EngineSite | None = None,
    cancel: CancelToken | None = None,
) -> PruneResult:
    """Removes the cache records that hold the named contexts' files.

    These are the contexts themselves, every step that copied from one, every record whose
    description contains one of ``steps`` (BuildKit describes a RUN by its command), and all
    records that stand on any of them. Raises RelforgeError (ENVIRONMENT) when the engine refuses.
    """
    names = tuple(contexts)
    marks = tuple(steps)
    cli = find_cli(site)
    doomed = _doomed(_records(cli, cancel), names, marks)
    for record in _heirs_first(doomed):
        _prune(cli, record, cancel)
    left = _doomed(_records(cli, cancel), names, marks)
    return PruneResult(
        removed=len(doomed) - len(left.keys() & doomed.keys()),
        in_use=tuple(sorted(r.description or r.id for r in left.values())),
    )


def prune_cache_mounts(
    namespace: str, *, site: EngineSite | None = None, cancel: CancelToken | None = None
) -> PruneResult:
    """Removes the cache mounts of builds whose ``cache_mounts`` was *namespace*.

    Raises RelforgeError (ENVIRONMENT) when the engine refuses.
    """
    cli = find_cli(site)

    def ours() -> dict[str, _Record]:
        # As BuildKit describes them: cached mount TARGET from exec STEP with id "NAMESPACE/ID".
        mark = f'with id "{namespace}/'
        return {r.id: r for r in _records(cli, cancel) if mark in r.description}

    doomed = ours()
    for record in _heirs_first(doomed):
        _prune(cli, record, cancel)
    left = ours()
    return PruneResult(
        removed=len(doomed.keys() - left.keys()),
        in_use=tuple(sorted(r.description for r in left.values())),
    )


def _doomed(
    records: list[_Record], contexts: tuple[str, ...], steps: tuple[str, ...]
) -> dict[str, _Record]:
    sources = {f"local source for {name}" for name in contexts}
    names = "|".join(re.escape(c) for c in contexts)
    copies = re.compile(rf"\b(COPY|ADD) .*--from=({names})[ /]") if names else None
    doomed = {
        r.id: r
        for r in records
        if r.description in sources
        or (copies is not None and copies.search(r.description))
        or any(mark in r.description for mark in steps)
    }
    grew = True
    while grew:
        heirs = {r.id: r for r in records if r.id not in doomed and doomed.keys() & set(r.parents)}
        doomed.update(heirs)
        grew = bool(heirs)
    return doomed


def _records(cli: DockerCli, cancel: CancelToken | None) -> list[_Record]:
    argv = cli.argv("buildx", "du", "--builder", "default", "--verbose")
    done = proc.run(
        argv,
        code=ExitCode.ENVIRONMENT,
        what="the build cache could not be listed",
        env=cli.environment,
        timeout_s=_TIMEOUT_S,
        cancel=cancel,
    )
    # Blocks of "Key:<tab>value" lines with an empty line between; the last block is a summary.
    found = []
    for block in done.text.split("\n\n"):
        rows = dict(_row(line) for line in block.splitlines() if ":" in line)
        if "ID" not in rows:
            continue
        parents = rows.get("Parents") or rows.get("Parent") or ""
        found.append(
            _Record(
                id=rows["ID"],
                parents=tuple(p.strip() for p in parents.split(",") if p.strip()),
                description=rows.get("Description", ""),
            )
        )
    if not found and "Total:" not in done.text:
        raise RelforgeError(
            "the build cache's list has an unknown form",
            code=ExitCode.ENVIRONMENT,
            where=proc.shown(argv),
            why=f"buildx {cli.buildx_version} printed no record that could be read",
            hint="docker buildx prune --all removes the whole cache",
        )
    return found


def _row(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _heirs_first(records: dict[str, _Record]) -> list[str]:
    # BuildKit keeps a record as long as another one stands on it.
    order: list[str] = []
    left = dict(records)
    while left:
        needed = {parent for r in left.values() for parent in r.parents}
        free = sorted(left.keys() - needed) or sorted(left)
        order += free
        for record in free:
            del left[record]
    return order


def _prune(cli: DockerCli, record: str, cancel: CancelToken | None) -> None:
    # buildx takes one id per call.
    argv = cli.argv("buildx", "prune", "--builder", "default", "--force", "--all")
    proc.run(
        [*argv, "--filter", f"id={record}"],
        code=ExitCode.ENVIRONMENT,
        what="the build cache could not be pruned",
        env=cli.environment,
        timeout_s=_TIMEOUT_S,
        cancel=cancel,
    )
