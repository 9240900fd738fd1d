"""Jobs on a real Ray cluster of several hosts, each a ``relforge worker`` with its own home."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import Event, StageLine, StageStarted, StageWaiting
from relforge.evidence.store import Store
from relforge.executor.ray_executor import RayExecutor, ray_executor
from relforge.manifest.limits import StageLimits
from relforge.running.work import StageWork
from relforge.stage import Job, Resources, StageContext, StageResult
from tests.e2e.conftest import command
from tests.support.far_network import far_network
from tests.support.ray_fleet import Fleet, fleet, in_session
from tests.support.ray_toys import Errand, ErrandResult, device_manifests, errand, gone

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("ray")]
CUT_BYTES = 40 << 20


class Driver:
    """A home, an executor on the cluster, and what was told."""

    def __init__(self, home: Path, executor: RayExecutor) -> None:
        self.home, self.executor = home, executor
        self.events: list[Event] = []
        self.cancel = CancelToken()

    def run(self, job: Job[Any]) -> ErrandResult:
        ctx = StageContext("toy", "errand", self.cancel, self.events.append)
        found = self.executor.execute(Errand(), job, ctx)
        assert isinstance(found, ErrandResult)
        return found

    def job(self, device: str = "dev_a", **words: Any) -> Job[Any]:
        return errand(self.home, needs=Resources(cpu_cores=0, device=device), **words)

    def start(self, job: Job[Any]) -> Background:
        return Background(lambda: self.run(job))

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def hosts(self) -> list[str]:
        return [event.host for event in self.of(StageStarted)]


class Background:
    """Something in a thread, with its result or its error."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.result = work()
            except BaseException as error:  # noqa: BLE001 (who waits gets it)
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float = 90) -> Any:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "it does not end"
        if self.error is not None:
            raise self.error
        return self.result


def until(true: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)
    return found


def left_in_work(home: Path) -> list[Path]:
    """Files that came and were not taken."""
    return [path for path in (home / "work").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """``dev_a`` is on two hosts, ``dev_b`` on one."""
    folder = tmp_path_factory.mktemp("fleet")
    project = device_manifests(folder / "project", "dev_a", "dev_b", "dev_late", "dev_tight")
    with fleet(folder) as found:
        for name, device in (("one", "dev_a"), ("two", "dev_a"), ("three", "dev_b")):
            join(found, name, device)
        assert project.is_dir()
        yield found


def join(cluster: Fleet, name: str, device: str, **words: Any) -> Any:
    project = ("--project", str(cluster.folder / "project"))
    # Of a processor a host takes as many jobs as it has cores for; these are to be one at a time.
    words.setdefault("limits", {"devices": {device.partition("=")[0]: 1}})
    return cluster.join(name, "--device", device, *project, **words)


@pytest.fixture
def driver(cluster: Fleet, tmp_path: Path) -> Iterator[Driver]:
    home = tmp_path / "home"
    with ray_executor(cluster.site(home), home) as executor:
        yield Driver(home, executor)


def test_files_go_over_by_hash_and_never_twice(driver: Driver, cluster: Fleet) -> None:
    made = driver.run(driver.job(device="dev_b", makes=CUT_BYTES))
    assert made.host == "three"
    assert driver.hosts == ["three"]
    big, small = made.outputs
    assert big.path.is_relative_to(driver.home / "store")
    assert big.path.stat().st_size == CUT_BYTES
    assert made.folder == big.path.parent
    assert made.nested["first"] == big, "each mention of a file has this host's stamp"
    assert big.inode == big.path.stat().st_ino
    assert (driver.home / "runs/one/toy/own.log").read_text() == "log of three\n"
    assert [line.text for line in driver.of(StageLine)] == ["at work on three"]

    def sent() -> dict[str, int]:
        return driver.executor.counts()[0]

    assert sum(sent().values()) == 0
    # The host that made it has it; the others get it once.
    again = driver.run(driver.job(device="dev_b", upstream={"x": made}))
    assert again.read == (big.sha256, small.sha256)
    assert sent() == {}
    first = driver.run(driver.job(upstream={"x": made}))
    assert first.read == (big.sha256, small.sha256)
    assert sent() == {first.host: CUT_BYTES + len(b"small")}
    for number in range(4):
        driver.run(driver.job(upstream={"x": made}, says=f"again {number}"))
    assert all(count == CUT_BYTES + len(b"small") for count in sent().values())
    # What comes back is not sent either where it is here already.
    before = driver.executor.counts()[1]["three"]
    assert driver.run(driver.job(device="dev_b", makes=CUT_BYTES)).outputs[0].path == big.path
    came = driver.executor.counts()[1]["three"] - before
    assert came == len(b"log of three\n"), "its log, which another host's had replaced"


def test_a_file_that_was_altered_here_is_not_sent_as_what_it_was(driver: Driver) -> None:
    made = driver.run(driver.job(device="dev_b", makes=1 << 20))
    made.outputs[0].path.write_bytes(b"\1" * (1 << 20))
    with pytest.raises(RelforgeError) as caught:
        driver.run(driver.job(upstream={"x": made}))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "a file came as another one" in caught.value.what


def test_what_needs_nothing_runs_here(driver: Driver) -> None:
    assert driver.run(errand(driver.home, needs=Resources())).host == "driver"
    assert driver.executor.counts() == ({}, {})


def test_a_home_has_one_worker(driver: Driver, cluster: Fleet) -> None:
    """A second one would take the first one's session for an old one."""
    first = cluster.workers["one"]
    words = ("worker", "--address", cluster.address, "--site", str(first.site), "--device", "dev_a")
    project = ("--project", str(cluster.folder / "project"))
    done = subprocess.run(
        command(*words, *project), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 3
    assert f"process {first.process.pid} " in done.stderr
    assert driver.run(driver.job()).host in ("one", "two")
    assert (first.home / "ray" / "node").exists()


def test_an_error_keeps_its_code_and_names_the_host(driver: Driver) -> None:
    with pytest.raises(RelforgeError) as caught:
        driver.run(driver.job(device="dev_b", raises=6))
    assert (caught.value.code, caught.value.where) == (ExitCode.GATE, "three")
    assert caught.value.log is not None
    assert Path(caught.value.log).read_text() == "log of three\n"
    with pytest.raises(RuntimeError, match=r"(?s)on three:.*ZeroDivisionError: a bug"):
        driver.run(driver.job(device="dev_b", raises="bug"))


def test_a_device_serves_one_job_at_a_time(driver: Driver, tmp_path: Path) -> None:
    note = tmp_path / "note"
    jobs = [
        driver.start(driver.job(device="dev_b", note=str(note), sleep_s=0.4, says=str(n)))
        for n in range(3)
    ]
    most = 0
    while any(job.result is None for job in jobs):
        assert all(job.error is None for job in jobs), [job.error for job in jobs]
        rows = note.read_text().splitlines() if note.exists() else []
        most = max(most, len(rows) - sum(job.result is not None for job in jobs))
        time.sleep(0.02)
    # One may have ended without having been seen to.
    assert most <= 2
    assert len(note.read_text().splitlines()) == 3


def test_a_lost_process_begins_anew(driver: Driver, tmp_path: Path) -> None:
    note = tmp_path / "note"
    found = driver.run(driver.job(device="dev_b", note=str(note), dies=2))
    assert found.host == "three"
    assert len(note.read_text().splitlines()) == 3
    assert driver.hosts == ["three"] * 3


def test_a_process_that_always_dies_is_an_error(driver: Driver, tmp_path: Path) -> None:
    with pytest.raises(RelforgeError) as caught:
        driver.run(driver.job(device="dev_b", note=str(tmp_path / "note"), dies=99))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.where == "three"


def test_cancelled_it_ends_what_it_started(driver: Driver, tmp_path: Path) -> None:
    child = tmp_path / "child"
    job = driver.start(driver.job(device="dev_b", child=str(child)))
    until(lambda: child.exists() and child.read_text().strip(), "the child starts")
    pid = int(child.read_text())
    assert not gone(pid)
    driver.cancel.cancel("the test")
    with pytest.raises(Cancelled):
        job.wait(30)
    assert gone(pid)


def test_a_time_limit_holds(driver: Driver, tmp_path: Path) -> None:
    child = tmp_path / "child"
    job = driver.job(device="dev_b", child=str(child))
    work = StageWork(Errand(), job, Any, StageLimits(timeout_s=25))  # type: ignore[arg-type]
    store = Store(driver.home)
    with pytest.raises(RelforgeError, match="took longer than its time limit"):
        work.run(driver.executor, store, CancelToken(), driver.events.append)
    assert gone(int(child.read_text()))


def test_a_device_that_no_host_has_is_waited_for(driver: Driver, cluster: Fleet) -> None:
    job = driver.start(driver.job(device="dev_late"))
    waiting = until(lambda: driver.of(StageWaiting), "it is told to wait")
    assert waiting[0].why == "no host has dev_late now"
    late = join(cluster, "late", "dev_late")
    assert job.wait().host == "late"
    told = [event.why for event in driver.of(StageWaiting)]
    assert told.count("no host has dev_late now") == 1, "told once"
    late.kill()


def test_what_asks_ray_when_all_is_over_starts_no_cluster(cluster: Fleet, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ray_executor(cluster.site(home), home):
        import ray
    with pytest.raises(ray.exceptions.RaySystemError):
        ray.nodes()  # type: ignore[no-untyped-call]
    assert not ray.is_initialized()


def test_nobody_asks_a_desk_any_more_when_ray_is_shut_down(cluster: Fleet, tmp_path: Path) -> None:
    """Who waits for an answer then brings the whole process down, in Ray's own code."""
    home = tmp_path / "home"
    with ray_executor(cluster.site(home), home) as executor:
        executor.counts()  # the desk is there
        (desk,) = titled("ray::Desk", in_session(cluster.workers["head"].node_pid))
        os.kill(desk, signal.SIGSTOP)
        stopped_s = time.monotonic()
    try:
        assert time.monotonic() - stopped_s < 30
        assert "relforge-news" not in {thread.name for thread in threading.enumerate()}
    finally:
        os.kill(desk, signal.SIGCONT)


def titled(title: str, pids: Sequence[int]) -> list[int]:
    """Processes that call themselves so."""
    found = ((pid, Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in pids)
    return [pid for pid, words in found if words.startswith(title.encode())]


def test_waiting_has_an_end(cluster: Fleet, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ray_executor(cluster.site(home, wait_for_host_s=1), home) as executor:
        driver = Driver(home, executor)
        with pytest.raises(RelforgeError) as caught:
            driver.run(driver.job(device="dev_unknown"))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.what == "no host has dev_unknown now"
    assert caught.value.hint is not None
    assert "relforge worker" in caught.value.hint


@pytest.fixture
def tight(cluster: Fleet, tmp_path: Path) -> Iterator[Path]:
    """The small disk of a host that has ``dev_tight``."""
    folder = tmp_path / "tight"
    folder.mkdir()
    mounted = os.system(f"mount -t tmpfs -o size=64m tmpfs {folder}")
    assert mounted == 0, "root is needed"
    try:
        host = join(cluster, "tight", "dev_tight", home=str(folder / "home"))
        yield folder
        host.kill()
    finally:
        os.system(f"umount --lazy {folder}")


def test_a_full_disk_sends_the_job_elsewhere(driver: Driver, cluster: Fleet, tight: Path) -> None:
    with pytest.raises(RelforgeError) as caught:
        driver.run(driver.job(device="dev_tight", fills=200 << 20))
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.where is not None
    assert caught.value.where.startswith("tight")
    assert "the disk is full" in caught.value.what
    assert tight.is_mount()
    # Another host with the device has room.
    roomy = join(cluster, "roomy", "dev_tight")
    found = [
        driver.run(driver.job(device="dev_tight", fills=200 << 20, says=str(n))).host
        for n in range(4)
    ]
    assert found == ["roomy"] * 4
    assert any("goes to another host" in line.text for line in driver.of(StageLine))
    roomy.kill()


@pytest.mark.skipif(
    "RELFORGE_LONG" not in os.environ, reason="minutes, on a quiet machine: RELFORGE_LONG=1"
)
def test_a_full_disk_where_the_other_host_is_lost(
    driver: Driver, cluster: Fleet, tight: Path
) -> None:
    """What is sent to a full one does not fit; and the other one is lost before anybody knows.
    Nobody waits for a third."""
    roomy = join(cluster, "roomy", "dev_tight")
    with (tight / "ballast").open("wb") as file:
        file.write(bytes(60 << 20))
    made = driver.run(driver.job(device="dev_b", makes=CUT_BYTES))
    roomy.freeze()
    job = driver.start(driver.job(device="dev_tight", upstream={"x": made}))
    with pytest.raises(RelforgeError, match="the disk is full") as caught:
        job.wait(timeout_s=240)
    assert (caught.value.where or "").startswith("tight")
    roomy.kill()


@pytest.mark.skipif(
    "RELFORGE_LONG" not in os.environ, reason="minutes, on a quiet machine: RELFORGE_LONG=1"
)
def test_a_killed_host_loses_no_job(driver: Driver, cluster: Fleet, tmp_path: Path) -> None:
    note, child = tmp_path / "note", tmp_path / "child"
    job = driver.start(driver.job(note=str(note), sleep_s=4, makes=1 << 20))
    until(note.exists, "the job begins")
    first = until(lambda: driver.hosts, "it is told where")[0]
    cluster.workers[first].kill()
    found = job.wait()
    other = {"one": "two", "two": "one"}[first]
    assert found.host == other
    assert [row.split()[0] for row in note.read_text().splitlines()] == [first, other]
    until(lambda: driver.hosts == [first, other], "it is told where it went")
    assert any(f"host {first} was lost" in line.text for line in driver.of(StageLine))
    assert found.outputs[0].path.is_file()
    assert not child.exists()
    # The last one with the device is cut off; one that joins takes over.
    note.unlink()
    driver.events.clear()
    job = driver.start(driver.job(note=str(note), sleep_s=5, makes=1 << 20, says="second"))
    until(note.exists, "the job begins")
    cut = cluster.workers[other]
    cut.freeze()
    waits = [f"for a host in the place of {other}, which was lost", "no host has dev_a now"]
    until(lambda: [event.why for event in driver.of(StageWaiting)][-2:] == waits, "it waits")
    join(cluster, "spare", "dev_a")
    assert job.wait(180).host == "spare"
    made = job.result.outputs[0]
    before = made.path.stat().st_mtime_ns
    # Back again, the first one ends what it did: nobody takes that.
    cut.freeze(thaw=True)
    time.sleep(6)
    assert made.path.stat().st_mtime_ns == before
    assert left_in_work(driver.home) == []
    assert isinstance(job.result, StageResult)


@pytest.mark.skipif(
    "RELFORGE_LONG" not in os.environ, reason="minutes, on a quiet machine: RELFORGE_LONG=1"
)
def test_a_host_whose_network_is_cut_works_on_for_nobody(tmp_path: Path) -> None:
    """It has a network of its own, and hears of nothing: its job is done elsewhere, and what it
    brings when it is back is refused."""
    project = ("--project", str(device_manifests(tmp_path / "project", "dev_a")))
    limits = {"devices": {"dev_a": 1}}
    note = tmp_path / "note"
    with far_network() as network, fleet(tmp_path / "fleet", ip=network.near(1)) as cluster:
        words = ("--device", "dev_a", *project)
        cluster.join("far", *words, ip=network.address, before=network.inside(), limits=limits)
        home = tmp_path / "home"
        with ray_executor(cluster.site(home), home) as executor:
            driver = Driver(home, executor)
            job = driver.start(driver.job(note=str(note), sleep_s=25, makes=1 << 20))
            until(note.exists, "the job begins")
            network.cut()
            until(lambda: driver.of(StageWaiting), "it is told that no host has the device")
            cluster.join("near", *words, limits=limits)
            assert job.wait(180).host == "near"
            made = job.result.outputs[0]
            before = (made.path.stat().st_mtime_ns, made.path.stat().st_ino)
            network.mend()
            time.sleep(15)
            assert (made.path.stat().st_mtime_ns, made.path.stat().st_ino) == before
            assert left_in_work(home) == []
            assert [row.split()[0] for row in note.read_text().splitlines()] == ["far", "near"]
            assert driver.hosts == ["far", "near"]
