"""What jobs may take together on this host, and what each that runs has taken."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from relforge.frozen import Frozen
from relforge.manifest.site import LimitsSite
from relforge.stage import Resources

_MEMINFO = Path("/proc/meminfo")


class Limits(Frozen):
    """``jobs`` at once; the sum of what they need stays within the rest. Sizes are bytes.

    ``engine`` is how many jobs may use the container engine at once, ``registry`` how many may send
    to registries and hubs. An accelerator that is not named serves one job at a time; a processor
    as many as there are cores and memory for.
    """

    jobs: int = 1
    cpu_cores: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0
    engine: int = 2
    registry: int = 2
    devices: Mapping[str, int] = {}

    @classmethod
    def of(cls, site: LimitsSite, home: Path, *, jobs: int | None = None) -> Limits:
        """What the site says, else what this host has now; of cores, twice what it has.

        A job that may use two cores waits for disk, engine and its own processes about half of the
        time: of two cores, jobs one after another used 0.8 (scripts/bench_scale.py shared). What
        measures time runs alone.
        """
        cores = site.cpu_cores or 2 * len(os.sched_getaffinity(0))
        return cls(
            jobs=jobs or site.jobs or 1,
            cpu_cores=cores,
            memory_bytes=site.memory_bytes or _available_memory_bytes(),
            disk_bytes=site.disk_bytes or _free_bytes(home),
            engine=site.engine,
            registry=site.registry,
            devices=site.devices,
        )


class Taken:
    """What is in use; one thread asks and changes it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._jobs = 0
        self._alone = False
        self._cpu = self._memory = self._disk = self._engine = self._registry = 0
        self._devices: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether nothing more may begin, whatever it needs."""
        return self._alone or self._jobs >= self.limits.jobs

    def lacking(self, needs: Resources, *, alone: bool = False) -> str | None:
        """What a job has to wait for; None: it may run.

        Where nothing else runs there is nothing to wait for: whether a host is large enough at all
        is preflight's to say.
        """
        limits = self.limits
        if self._jobs == 0:
            return None
        if alone:
            return "for the other jobs to end: it measures, and runs alone"
        device = needs.device
        most = limits.devices.get(device or "", math.inf if needs.shared_device else 1)
        if device and self._devices[device] >= most:
            return f"for the device {device}"
        if needs.engine and self._engine >= limits.engine:
            return f"for the container engine, which {self._engine} jobs use"
        if needs.registry and self._registry >= limits.registry:
            return f"for a connection to the registry; {self._registry} are in use"
        if self._cpu + needs.cpu_cores > limits.cpu_cores:
            return f"for {needs.cpu_cores} of {limits.cpu_cores} processor cores"
        if needs.memory_bytes and self._memory + needs.memory_bytes > limits.memory_bytes:
            return f"for {needs.memory_bytes >> 20} MiB of memory"
        if needs.disk_bytes and self._disk + needs.disk_bytes > limits.disk_bytes:
            return f"for {needs.disk_bytes >> 20} MiB of disk"
        return None

    def take(self, needs: Resources, *, alone: bool = False) -> None:
        self._change(needs, 1)
        self._alone = self._alone or alone

    def give_back(self, needs: Resources, *, alone: bool = False) -> None:
        self._change(needs, -1)
        self._alone = self._alone and not alone

    def _change(self, needs: Resources, sign: int) -> None:
        self._jobs += sign
        self._cpu += sign * needs.cpu_cores
        self._memory += sign * needs.memory_bytes
        self._disk += sign * needs.disk_bytes
        self._engine += sign * needs.engine
        self._registry += sign * needs.registry
        if needs.device:
            self._devices[needs.device] += sign


def _available_memory_bytes() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 62  # nobody can tell


def _free_bytes(home: Path) -> int:
    place = home
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
