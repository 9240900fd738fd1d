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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.cli import DockerCli, find_cli
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import EngineSite

_TIMEOUT_S = 300.0
_BLOCK = re.compile(r"(?m)^(?=ID:\s)")
_AFTER = re.compile(r"\n(Usage count|Last used|Type):[ \t]")


class PruneResult(Frozen):
    """``removed`` counts records; ``in_use`` names those that another build holds just now."""

    removed: int
    in_use: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """One record of BuildKit's cache. ``text`` is the whole description, of which ``description``
    is the first line; sizes and times are as buildx words them, ``last_used`` empty for never."""

    id: str
    parents: tuple[str, ...]
    description: str
    text: str = ""
    size: str = ""
    last_used: str = ""
    created: str = ""


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
    doomed = _doomed(records(cli, cancel), names, marks)
    for record in heirs_first(doomed):
        prune_record(cli, record, cancel)
    left = _doomed(records(cli, cancel), names, marks)
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

    def ours() -> dict[str, Record]:
        # As BuildKit describes them: cached mount TARGET from exec STEP with id "NAMESPACE/ID".
        mark = f'with id "{namespace}/'
        return {r.id: r for r in records(cli, cancel) if mark in r.description}

    doomed = ours()
    for record in heirs_first(doomed):
        prune_record(cli, record, cancel)
    left = ours()
    return PruneResult(
        removed=len(doomed.keys() - left.keys()),
        in_use=tuple(sorted(r.description for r in left.values())),
    )


def _doomed(
    records: list[Record], contexts: tuple[str, ...], steps: tuple[str, ...]
) -> dict[str, Record]:
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


def records(cli: DockerCli, cancel: CancelToken | None) -> list[Record]:
    """The whole cache. Raises RelforgeError (ENVIRONMENT)."""
    argv = cli.argv("buildx", "du", "--builder", "default", "--verbose")
    done = proc.run(
        argv,
        code=ExitCode.ENVIRONMENT,
        what="the build cache could not be listed",
        env=cli.environment,
        timeout_s=_TIMEOUT_S,
        cancel=cancel,
    )
    found = [_record(block) for block in _BLOCK.split(done.text) if block.startswith("ID:")]
    if not found and "Total:" not in done.text:
        raise RelforgeError(
            "the build cache's list has an unknown form",
            code=ExitCode.ENVIRONMENT,
            where=proc.shown(argv),
            why=f"buildx {cli.buildx_version} printed no record that could be read",
            hint="docker buildx prune --all removes the whole cache",
        )
    return found


def _record(block: str) -> Record:
    """Lines of "Key:<tab>value"; what a RUN describes may have several, also empty ones."""
    head, _, tail = block.partition("\nDescription:")
    description, rest = tail, ""
    if end := _AFTER.search(tail):
        description, rest = tail[: end.start()], tail[end.start() :]
    rows = dict(_row(line) for line in f"{head}\n{rest}".splitlines() if ":" in line)
    parents = rows.get("Parents") or rows.get("Parent") or ""
    return Record(
        id=rows["ID"],
        parents=tuple(p.strip() for p in parents.split(",") if p.strip()),
        description=description.strip().partition("\n")[0],
        text=description.strip(),
        size=rows.get("Size", ""),
        last_used=rows.get("Last used", ""),
        created=rows.get("Created at", ""),
    )


def _row(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def heirs_first(records: Mapping[str, Record]) -> list[str]:
    """Ids in the order in which BuildKit can forget them."""
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


def prune_record(
    cli: DockerCli, record: str, cancel: CancelToken | None, *, unused_s: float | None = None
) -> None:
    """Has BuildKit forget one record, where nothing stands on it; with ``unused_s`` only if it was
    not used for that long."""
    # buildx takes one id per call.
    argv = cli.argv("buildx", "prune", "--builder", "default", "--force", "--all")
    until = ("--filter", f"until={int(unused_s)}s") if unused_s else ()
    proc.run(
        [*argv, "--filter", f"id={record}", *until],
        code=ExitCode.ENVIRONMENT,
        what="the build cache could not be pruned",
        env=cli.environment,
        timeout_s=_TIMEOUT_S,
        cancel=cancel,
    )
