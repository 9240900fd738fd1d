#!/usr/bin/env python3
"""What ``--executor ray`` costs: many trivial jobs on local nodes, and files that go over.

    scripts/bench_ray.py [--jobs 1000,3000,10000] [--at-once 16] [--megabytes 512]

Real workers (``relforge worker``) with homes of their own, on this machine. Printed are, for each
number of jobs, seconds of wall time per job and of the driver's own processor time per job: the
latter is what scheduling, sending and taking in cost this process. Wanted: 30 ms at most, and the
same at every size.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from relforge.cancel import CancelToken
from relforge.executor.ray_executor import RayExecutor, ray_executor
from relforge.stage import Resources, StageContext
from tests.support.ray_fleet import fleet
from tests.support.ray_toys import Errand, ErrandResult, device_manifests, errand

LIMIT_S = 0.030


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default="1000,3000,10000")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=512)
    words = parser.parse_args()
    sizes = [int(word) for word in words.jobs.split(",")]
    with tempfile.TemporaryDirectory(prefix="rfb-") as folder:
        top = Path(folder)
        device_manifests(top / "project", "dev_a", "dev_b")
        with fleet(top / "fleet") as cluster:
            for name, device in (("one", "dev_a"), ("two", "dev_b")):
                cluster.join(
                    name, "--device", device, "--project", str(top / "project"),
                    limits={"devices": {device: 1000}},
                )  # fmt: skip
            home = top / "driver"
            with ray_executor(cluster.site(home), home) as executor:
                warm(executor, home, words.at_once)
                slowest = max(many(executor, home, count, words.at_once) for count in sizes)
                moved(executor, home, words.megabytes)
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0 if slowest <= LIMIT_S else 1


def warm(executor: RayExecutor, home: Path, at_once: int) -> None:
    many(executor, home, at_once * 4, at_once, told=False)


def many(
    executor: RayExecutor, home: Path, count: int, at_once: int, *, told: bool = True
) -> float:
    """Seconds of wall time per job."""
    ctx = StageContext("toy", "errand", CancelToken())
    needs = Resources(cpu_cores=0, device="dev_a")
    job = errand(home, needs=needs, quiet=True)
    started, used = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(at_once) as pool:
        for done in pool.map(lambda _: executor.execute(Errand(), job, ctx), range(count)):
            assert isinstance(done, ErrandResult)
            assert done.host == "one"
    each = (time.monotonic() - started) / count
    if told:
        own = (time.process_time() - used) / count
        print(f"{count:>6} jobs: {each * 1000:6.1f} ms each, {own * 1000:5.1f} ms of the driver's")
    return each


def moved(executor: RayExecutor, home: Path, megabytes: int) -> None:
    """One large file back from a worker, over to another one, and a second time."""
    ctx = StageContext("toy", "errand", CancelToken())
    started = time.monotonic()
    job = errand(home, needs=Resources(cpu_cores=0, device="dev_a"), makes=megabytes << 20)
    made = executor.execute(Errand(), job, ctx)
    print(f"{megabytes} MiB made and brought back: {time.monotonic() - started:.1f} s")
    needs = Resources(cpu_cores=0, device="dev_b")
    for what in ("sent to another host", "asked for there again"):
        before, started = sum(executor.counts()[0].values()), time.monotonic()
        executor.execute(Errand(), errand(home, needs=needs, upstream={"x": made}), ctx)
        sent = sum(executor.counts()[0].values()) - before
        print(f"{what}: {time.monotonic() - started:.1f} s, {sent >> 20} MiB")


if __name__ == "__main__":
    sys.exit(main())
