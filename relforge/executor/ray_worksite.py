"""A job made ready on a worker: its files laid out, its paths and site this host's, the host looked
at."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from relforge import hostcheck, sweeping
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_calls import DeskCalls
from relforge.executor.ray_git import missing_objects, names_for, take_pack
from relforge.executor.ray_host import Unfit, WorkerPlace
from relforge.executor.ray_paths import Places, moved, outputs_in, stamped
from relforge.executor.ray_sent import Sent, SentFile, output_of
from relforge.executor.ray_shared import LargeFiles, large_files_now
from relforge.executor.ray_store import WorkerFiles
from relforge.executor.ray_weights import own_weights, refuse_too_large
from relforge.files import held_lock
from relforge.frozen import content_key
from relforge.gitio.git import Git
from relforge.leftovers import owned_folder
from relforge.manifest.site import Site
from relforge.stage import Job, StageContext, StageEnv
from relforge.ui.text import size

_FULL = (errno.ENOSPC, errno.EDQUOT)


def own_large_files(sent: Sent, site: Site, ctx: StageContext) -> LargeFiles | None:
    """This host's way to the driver's place for large files, where it has one."""
    if sent.shared is None:
        return None
    large = large_files_now(site, line=ctx.line, cancel=ctx.cancel)
    return large if large is not None and large.place.id == sent.shared else None


def receive(
    sent: Sent,
    place: WorkerPlace,
    site: Site,
    calls: DeskCalls,
    ctx: StageContext,
    large: LargeFiles | None,
) -> tuple[Job[Any], Places]:
    """The job as this host runs it, and this host's places.

    Raises RelforgeError (ENVIRONMENT) when the disk is full, Cancelled.
    """
    places = _places(sent, place)
    job = sent.job
    weights = own_weights(job, site, place.home, ctx)
    if weights is None:
        refuse_too_large(job.upstream.get("weights"), site)
    own = {} if weights is None else {o.path: o for o in outputs_in(weights.told)}
    wanted = [(file, places.here(file.path)) for file in sent.files if file.path not in own]
    came, came_bytes = WorkerFiles(place.home, ctx.cancel).lay_out(wanted, calls.fetch, large)
    objects_bytes = _objects(sent, place, calls, ctx)
    if came or objects_bytes:
        ctx.line(f"{place.name}: {came} files came, {size(came_bytes + objects_bytes)}")
    laid = {path: output_of(file, path) for file, path in wanted}
    upstream = dict(job.upstream)
    if weights is not None:
        upstream["weights"] = weights.here
    upstream = {name: stamped(moved(one, places.here), laid) for name, one in upstream.items()}
    env = moved(job.env, places.here)
    patch_sets = {name: places.here(path) for name, path in sent.patch_sets.items()}
    mine = site.model_copy(
        update={
            "home": place.home, "dist": env.dist,
            # What was planned is what is applied; who signed it, this site's keys decide.
            "patch_sets": {**site.patch_sets, **patch_sets},
        }
    )  # fmt: skip
    mine._file = site.file
    env = env.model_copy(update={"site": mine, "home": place.home})
    env.run_dir.mkdir(parents=True, exist_ok=True)
    return replace(job, upstream=upstream, env=env), places


def looked_at(sent: Sent, place: WorkerPlace, env: StageEnv, ctx: StageContext) -> None:
    """What preflight looks at, for this one job; leftovers of killed jobs go first: decrypted
    sources may be among them, and nobody types a command on a worker.

    Raises Unfit when something is missing.
    """
    needs, site = sent.needs, env.site
    sweeping.files(place.home, env.dist, ctx.line)
    if needs.engine:
        sweeping.engine(place.home, site.engine, ctx.line)
    findings = []
    if needs.disk_bytes:
        findings.append(hostcheck.disk(place.home, needs.disk_bytes))
    if needs.engine:
        findings += hostcheck.engine(site, needs.engine_disk_bytes)
    if sent.job.stage == "evaluate":
        findings.append(hostcheck.evaluator())
    if sent.job.stage == "bench":
        findings.append(hostcheck.plotter())
    if "identities" in sent.secrets:
        findings.append(hostcheck.identities(site.identities, site.key_passphrase_file))
    missing = [one for one in findings if one.state == "missing"]
    if missing:
        raise Unfit(
            f"{place.name} is not ready: {', '.join(one.name for one in missing)}",
            code=ExitCode.ENVIRONMENT,
            where=place.name,
            why="\n".join(f"{one.name}: {one.found}" for one in missing),
            hint="\n".join(one.remedy for one in missing if one.remedy),
        )


def full_disk(error: BaseException) -> bool:
    """Whether a failure comes of a disk that is full, wherever in its causes that stands."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        told = seen.what if isinstance(seen, RelforgeError) else ""
        if "the disk is full" in told or "the disk ran full" in told:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _places(sent: Sent, place: WorkerPlace) -> Places:
    """A copy of the project has its content's name: a changed one lies elsewhere."""
    count = len(sent.job.env.project_roots)
    listing = [f for f in sent.files if f.path.parts[1].startswith("@root")]
    key = content_key({"files": [file.model_dump(mode="json") for file in listing]})
    folder = place.home / "ray" / "projects" / key[:32]
    return Places(
        home=place.home,
        dist=place.home / "ray" / "dist",
        roots=tuple(folder / str(number) for number in range(count)),
        outside=place.home / "ray" / "outside",
    )


def _objects(sent: Sent, place: WorkerPlace, calls: DeskCalls, ctx: StageContext) -> int:
    """Git objects that this host's store lacks; returns the bytes that came."""
    from relforge.sources.api import store_of

    names = names_for(sent.trees, [(one.commit, one.path) for one in sent.commits])
    if not names:
        return 0
    git = store_of(place.home)
    git.cancel = ctx.cancel
    wanted = calls.objects(names)
    # Jobs that begin at once want the same objects: the second one finds them.
    lock = place.home / "ray" / "locks" / "objects"
    with held_lock(lock, purpose="git objects", on_wait=ctx.line, cancel=ctx.cancel):
        return _taken(git, wanted, place, calls, ctx)


def _taken(
    git: Git, wanted: Sequence[str], place: WorkerPlace, calls: DeskCalls, ctx: StageContext
) -> int:
    missing = missing_objects(git, wanted)
    if not missing:
        return 0
    sha256, size_bytes = calls.pack(missing)
    with owned_folder(place.home / "ray", ".pack") as folder:
        path = folder / "pack"
        file = SentFile(path=path, sha256=sha256, size_bytes=size_bytes)
        WorkerFiles(folder, ctx.cancel).lay_out([(file, path)], calls.fetch)
        take_pack(git, path)
    return size_bytes
