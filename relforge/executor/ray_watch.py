"""Waiting for one job's answer: where it is told to wait, where its host was lost, where it is
cancelled."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import StageWaiting
from relforge.executor.ray_agent import Answer
from relforge.executor.ray_cluster import Hosts
from relforge.executor.ray_news import Listener
from relforge.executor.ray_placement import Host, Placement, lacking, why_nowhere
from relforge.manifest.site import RaySite
from relforge.stage import StageContext

_LOOK_S = 0.2
_NOWHERE_S = 1.0
_BUSY_S = 5.0
"""A job that did not begin after so long is told to wait; a process of its own takes seconds."""
_RESENT_S = 15.0
"""So long Ray has to begin a job of a lost host anew, where another host is there for it."""
_ENDING_S = 60.0
"""A cancelled job gets so long to end what it started; then its process is ended."""


class HostLost(Exception):
    """The job's host is gone, another one is there for it, and Ray did not begin it there.

    Ray sees a dead host at once where its connections break; those of a host that was cut off stay
    open for minutes.
    """


class AllRefused(Exception):
    """Of the hosts with the keys that were chosen every one has refused the job; the last one that
    had not is gone."""


@dataclass
class Watch:
    """One job that was submitted; ``ref`` is its future answer."""

    ray: Any
    ref: Any
    hosts: Hosts
    site: RaySite
    listener: Listener
    ctx: StageContext
    told: str | None = None
    nowhere_since_s: float | None = None
    lost: str | None = None
    """The host that it ran on."""

    def answer(self, wanted: Placement, refused: Mapping[str, str]) -> Answer:
        """Raises RelforgeError (ENVIRONMENT) when no host took the job in time or too many were
        lost, HostLost where it has to be sent again, Cancelled."""
        asked_s = time.monotonic()
        while not self._ready(_LOOK_S):
            if self.ctx.cancel.cancelled:
                return self._cancelled()
            if self.listener.failed is not None:
                self.ray.cancel(self.ref, force=False, recursive=False)
                raise self.listener.failed
            begun = self.listener.host
            if begun is not None:
                self.nowhere_since_s = self.told = None
                gone = any(h.node_id == begun.node_id and not h.alive for h in self._hosts())
                if gone and self.listener.lost(begun):
                    self.ctx.line(f"host {begun.host} was lost; the job begins anew elsewhere")
                    self.lost = begun.host
                    asked_s = time.monotonic()
                continue
            if (since_s := time.monotonic() - asked_s) >= _NOWHERE_S:
                self._waits(wanted, refused, since_s)
        return self._got()

    def _ready(self, wait_s: float) -> bool:
        done, _ = self.ray.wait([self.ref], timeout=wait_s)
        return bool(done)

    def _waits(self, wanted: Placement, refused: Mapping[str, str], since_s: float) -> None:
        hosts = self._hosts()
        fit = [
            host
            for host in hosts
            if host.alive and host.node_id not in refused and lacking(wanted, host) is None
        ]
        if fit:
            self.nowhere_since_s = None
            if self.lost is not None and since_s >= _RESENT_S:
                self.ray.cancel(self.ref, force=True, recursive=False)
                raise HostLost(self.lost)
            if since_s >= _BUSY_S:
                self._tell(f"for a free host: {', '.join(sorted(host.name for host in fit))}")
            return
        if refused:
            self.ray.cancel(self.ref, force=True, recursive=False)
            raise AllRefused
        why = why_nowhere(wanted, hosts)
        self._tell(why)
        now_s = time.monotonic()
        self.nowhere_since_s = self.nowhere_since_s or now_s
        if now_s - self.nowhere_since_s >= self.site.wait_for_host_s:
            self.ray.cancel(self.ref, force=True, recursive=False)
            raise RelforgeError(
                why,
                code=ExitCode.ENVIRONMENT,
                why=f"it was waited for {self.site.wait_for_host_s:g} s",
                hint="start relforge worker on a host that has it, then run the same command "
                "again; ray.wait_for_host_s of the site configuration is the limit",
            )

    def _hosts(self) -> tuple[Host, ...]:
        """Raises RelforgeError (ENVIRONMENT) where the head is lost; the job ends if it can."""
        try:
            return self.hosts.now()
        except RelforgeError:
            self.ray.cancel(self.ref, force=True, recursive=False)
            raise

    def _tell(self, why: str) -> None:
        if why == self.told:
            return
        self.told = why
        ctx = self.ctx
        ctx.emit(StageWaiting(release=ctx.release, stage=ctx.stage, why=why, time_s=time.time()))

    def _cancelled(self) -> Answer:
        """Ends the job: on its worker first what it started, then its process."""
        self.ray.cancel(self.ref, force=False, recursive=False)
        if not self._ready(_ENDING_S):
            self.ray.cancel(self.ref, force=True, recursive=False)
        raise Cancelled(self.ctx.cancel.reason)

    def _got(self) -> Answer:
        from ray.exceptions import RayError, RayTaskError

        try:
            answer = pickle.loads(self.ray.get(self.ref))  # noqa: S301 (our own worker's)
        except RayTaskError as error:
            # Nothing of ours was raised: the worker has no such function, or another one.
            raise RelforgeError(
                "a worker cannot run jobs of this relforge",
                code=ExitCode.ENVIRONMENT,
                why=str(error).strip().splitlines()[-1],
                hint="install the same version on all hosts, and start their workers again",
            ) from error
        except RayError as error:
            begun = self.listener.host
            why = str(error).strip().splitlines()[0]
            raise too_often(begun.host if begun else None, why) from error
        assert isinstance(answer, Answer)
        return answer


def too_often(host: str | None, why: str) -> RelforgeError:
    """The error of a job that begins anew no more."""
    return RelforgeError(
        "the job's host or process was lost too often",
        code=ExitCode.ENVIRONMENT,
        where=host,
        why=why,
        hint="look at the workers (dmesg, their logs), then run the same command again",
    )
