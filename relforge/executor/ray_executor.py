"""Runs a job where it fits: on a worker of a Ray cluster, or in this process.

Ray places, and begins a job anew when its host or process is lost (``max_retries``); files go over
by hash (``ray_desk.py``). This side decides nothing but which host refused a job, and how long one
that fits nowhere is waited for.
"""

from __future__ import annotations

import pickle
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.errors import RelforgeError
from relforge.executor.local import LocalExecutor
from relforge.executor.ray_agent import Answer, Header, attempt_task
from relforge.executor.ray_cluster import Hosts, connected
from relforge.executor.ray_desk import Desk
from relforge.executor.ray_news import News
from relforge.executor.ray_openers import openers_of
from relforge.executor.ray_placement import Host, Placement, chosen, lacking, placement
from relforge.executor.ray_sent import Packed, ProjectFiles, pack, places_of
from relforge.executor.ray_shared import LargeFiles, large_files, large_files_now
from relforge.executor.ray_taking import NotShared, fetch_shared, take_in
from relforge.executor.ray_version import own_version
from relforge.executor.ray_watch import AllRefused, HostLost, Watch, too_often
from relforge.manifest.site import Site
from relforge.stage import Job, Resources, Stage, StageContext, StageResult
from relforge.workarea import work_area

_LOOK_S = 1.0
_AT_THE_DESK = 256
"""Calls that the desk answers at once; each is short."""


@contextmanager
def ray_executor(site: Site, home: Path) -> Iterator[RayExecutor]:
    """An executor on the site's cluster, while this is open. Raises what ``connected`` raises."""
    # A place that is not there is found before anything runs.
    if (large := large_files(site, line=_silent, cancel=CancelToken())) is not None:
        large.place.sweep()
    with work_area(home, "incoming") as incoming, connected(site) as ray:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        desk = (
            ray.remote(Desk)
            .options(num_cpus=0, max_concurrency=_AT_THE_DESK, scheduling_strategy=here)
            .remote(home, incoming)
        )
        cluster = Cluster(ray, desk, Hosts(ray, site.ray.address or ""), site)
        news = News(ray, desk)
        try:
            yield RayExecutor(cluster, news, incoming)
        finally:
            news.stop()


def _silent(_line: str) -> None:
    pass


@dataclass(frozen=True)
class Cluster:
    """``ray`` is the module, ``desk`` the handle of the driver's actor."""

    ray: Any
    desk: Any
    hosts: Hosts
    site: Site


class RayExecutor:
    """Asked from several threads at once."""

    def __init__(self, cluster: Cluster, news: News, incoming: Path) -> None:
        self._cluster, self._news, self._incoming = cluster, news, incoming
        self._task = attempt_task()
        self._project = ProjectFiles(cluster.site)
        self._local = LocalExecutor()

    def sends(self, stage: Stage[Any, Any], job: Job[Any]) -> bool:
        """Whether it needs what the driver does not lend, a key that it has not among it."""
        return self._placement(stage, job) is not None

    def _placement(self, stage: Stage[Any, Any], job: Job[Any]) -> Placement | None:
        openers, own = openers_of(job)
        return placement(
            stage.resources(job.inputs), job.inputs, alone=stage.alone, secrets=job.secrets,
            openers=openers, opens_here=own,
        )  # fmt: skip

    def execute(self, stage: Stage[Any, Any], job: Job[Any], ctx: StageContext) -> StageResult:
        """Raises what the stage raises, and RelforgeError (ENVIRONMENT) when no host takes it."""
        needs = stage.resources(job.inputs)
        wanted = self._placement(stage, job)
        if wanted is None:
            return self._local.execute(stage, _as_driver(job), ctx)
        large = large_files_now(self._cluster.site, line=ctx.line, cancel=ctx.cancel)
        shared = large.place.id if large is not None else None
        packed = pack(stage, job, needs, self._project, shared)
        return self._sent(wanted, packed, job, ctx, large)

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes of files that went to, and came from, each host by its name."""
        found: tuple[dict[str, int], dict[str, int]]
        found = self._cluster.ray.get(self._cluster.desk.counts.remote())
        return found

    def _sent(
        self,
        wanted: Placement,
        packed: Packed,
        job: Job[Any],
        ctx: StageContext,
        large: LargeFiles | None,
    ) -> StageResult:
        """One attempt after the other, until a host that is fit for the job has done it."""
        payload = pickle.dumps(packed.sent)
        refused: dict[str, str] = {}
        lost = 0
        refusal: RelforgeError | None = None
        while True:
            try:
                answer = self._attempted(wanted, packed, payload, refused, job, ctx, large)
            except NotShared:
                # Done again, with the driver as the way for its files; builds find their steps.
                ctx.line("the job is done again, and sends its files through the driver")
                packed = replace(packed, sent=replace(packed.sent, shared=None))
                payload, large = pickle.dumps(packed.sent), None
                continue
            except AllRefused:
                if refusal is not None and not self._fit(wanted, refused):
                    raise refusal from None
                continue
            except HostLost as gone:
                lost += 1
                if lost > self._cluster.site.ray.lost_hosts:
                    raise too_often(str(gone), "its host does not answer any more") from None
                continue
            if isinstance(answer.outcome, StageResult):
                return answer.outcome
            error = answer.outcome
            if not answer.unfit or not isinstance(error, RelforgeError):
                raise error
            refused[answer.node_id] = f"{answer.host}: {error.what}"
            refusal = error
            if not self._fit(wanted, refused):
                raise error
            ctx.line(f"{refused[answer.node_id]}; the job goes to another host")

    def _fit(self, wanted: Placement, refused: Mapping[str, str]) -> list[Host]:
        """Hosts that have what the job needs, and have not refused it."""
        return [
            host
            for host in self._cluster.hosts.now()
            if host.alive and host.node_id not in refused and lacking(wanted, host) is None
        ]

    def _attempted(
        self,
        wanted: Placement,
        packed: Packed,
        payload: bytes,
        refused: dict[str, str],
        job: Job[Any],
        ctx: StageContext,
        large: LargeFiles | None,
    ) -> Answer:
        cluster, name = self._cluster, uuid.uuid4().hex
        folder = self._incoming / name
        opened = cluster.desk.open_job.remote(name, dict(packed.here))
        listener = self._news.listen(name, ctx)
        try:
            hosts = [host for host in cluster.hosts.now() if host.alive]
            self._await(opened)
            asked = chosen(wanted, [h for h in hosts if h.node_id not in refused])
            ref = self._submit(asked, Header(name, own_version()), payload, refused)
            watch = Watch(cluster.ray, ref, cluster.hosts, cluster.site.ray, listener, ctx)
            answer = watch.answer(asked, refused)
            listener.pass_on(answer.events)
            if large is not None:
                fetch_shared(answer, folder, large, ctx.cancel)
            return take_in(answer, folder, places_of(job))
        finally:
            self._news.forget(name)
            cluster.desk.close_job.remote(name)
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _await(self, opened: Any) -> None:
        """Until the desk knows the job; asks for the head meanwhile, without which it never will.

        Raises RelforgeError (ENVIRONMENT).
        """
        from ray.exceptions import GetTimeoutError

        while True:
            try:
                self._cluster.ray.get(opened, timeout=_LOOK_S)
                return
            except GetTimeoutError:
                self._cluster.hosts.now()

    def _submit(
        self, wanted: Placement, header: Header, payload: bytes, refused: dict[str, str]
    ) -> Any:
        options: dict[str, Any] = {}
        if refused:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(refused)})"}
        task = self._task.options(
            num_cpus=wanted.cpu_cores,
            memory=wanted.memory_bytes or None,
            resources=wanted.resources,
            max_retries=self._cluster.site.ray.lost_hosts,
            # What a stage raises is its answer; only a lost host or process begins a job anew.
            retry_exceptions=False,
            **options,
        )
        # In a list: a handle that stands alone would be waited for.
        return task.remote(header, payload, [self._cluster.desk])


def _as_driver(job: Job[Any]) -> Job[Any]:
    """Preflight looks at this host for what this host does; workers look at theirs for each job."""
    from relforge.stages.preflight import PreflightInputs

    if not isinstance(job.inputs, PreflightInputs):
        return job
    inputs = job.inputs.model_copy(
        update={
            "needs": Resources(disk_bytes=job.inputs.needs.disk_bytes),
            "secrets": tuple(one for one in job.inputs.secrets if one != "identities"),
            "bootstraps": False,
            "evaluates": False,
            "benches": False,
            "nodes": 0,
        }
    )
    return replace(job, inputs=inputs)
