"""A cluster whose head goes away in the middle of a job."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_executor import ray_executor
from tests.integration.test_ray_cluster import Driver, join, until
from tests.support.ray_fleet import fleet
from tests.support.ray_toys import device_manifests

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("ray")]


def test_a_lost_head_is_told_and_ends_the_jobs(tmp_path: Path) -> None:
    """Ray itself would end this process after a minute, and say nothing that a run could keep."""
    device_manifests(tmp_path / "fleet" / "project", "dev_a")
    with fleet(tmp_path / "fleet") as cluster:
        join(cluster, "one", "dev_a")
        home = tmp_path / "home"
        with ray_executor(cluster.site(home), home) as executor:
            driver = Driver(home, executor)
            note = tmp_path / "note"
            job = driver.start(driver.job(note=str(note), sleep_s=200))
            until(note.exists, "the job begins")
            cluster.workers["head"].kill()
            killed_s = time.monotonic()
            with pytest.raises(RelforgeError) as caught:
                job.wait(timeout_s=120)
            assert caught.value.what == "the head of the Ray cluster was lost"
            assert caught.value.where == cluster.address
            assert caught.value.code is ExitCode.ENVIRONMENT
            assert "relforge worker --head" in (caught.value.hint or "")
            # The next one is told at once.
            told_s = time.monotonic()
            with pytest.raises(RelforgeError, match="the head of the Ray cluster was lost"):
                driver.run(driver.job())
            assert time.monotonic() - told_s < 10
            # Longer than Ray waits by itself: nobody ends this process.
            time.sleep(max(0.0, killed_s + 75 - time.monotonic()))
        # The worker's own node ends, and says so.
        worker = cluster.workers["one"]
        assert worker.process.wait(60) == 3
        assert "the Ray node ended" in worker.log.read_text()
