"""Locks between real processes: of one user, of another one, on what looks like another host."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.in_use import alone, users, using
from relforge.locks import held_lock, holder_of, not_waiting

HOLD = """
import os, sys, time
from pathlib import Path
from relforge.locks import held_lock
if len(sys.argv) > 2:
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
with held_lock(Path(sys.argv[1]), purpose="fetching"):
    print("held", flush=True)
    sys.stdin.read()
"""
NOBODY = 65534


@contextmanager
def holding(
    path: Path, *words: str, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its standard input is closed."""
    argv = [*before, sys.executable, "-c", HOLD, str(path), *words]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            if process.poll() is None:
                assert process.stdin is not None
                process.stdin.close()
            process.wait(10)


def refused(path: Path, **how: Any) -> RelforgeError:
    """How somebody else is told that the lock is taken."""
    with pytest.raises(RelforgeError) as failed, held_lock(path, **how):
        pass
    return failed.value


def test_whoever_waits_is_told_who_holds_it_and_what_for(tmp_path: Path) -> None:
    told: list[str] = []
    with holding(tmp_path / "lock") as other:
        assert other.stdin is not None
        threading.Timer(0.5, other.stdin.close).start()
        with held_lock(tmp_path / "lock", purpose="mine", on_wait=told.append):
            holder = holder_of(tmp_path / "lock")
            assert holder is not None
            assert (holder.pid, holder.purpose) == (os.getpid(), "mine")
    assert len(told) == 1
    assert told[0].startswith(f"waiting: process {other.pid} of user root (fetching, for 0 s)")
    assert holder_of(tmp_path / "lock") is None, "whoever left holds nothing"


def test_who_holds_it_too_long_is_named_in_the_error(tmp_path: Path) -> None:
    with holding(tmp_path / "lock") as other:
        failed = refused(tmp_path / "lock", purpose="mine", wait_s=0.2)
    assert failed.code is ExitCode.ENVIRONMENT
    assert failed.what == "mine: another relforge works here"
    assert f"process {other.pid} of user root (fetching" in str(failed.why)


def test_without_waiting_it_fails_at_once_but_never_for_its_own_threads(tmp_path: Path) -> None:
    with not_waiting():
        with holding(tmp_path / "lock") as other:
            failed = refused(tmp_path / "lock")
        assert f"process {other.pid}" in str(failed.why)
        got = threading.Event()

        def other_thread() -> None:
            with held_lock(tmp_path / "own"):
                got.set()

        with held_lock(tmp_path / "own"):
            thread = threading.Thread(target=other_thread)
            thread.start()
            assert not got.wait(1.0)
        thread.join(5)
        assert got.is_set()
    with holding(tmp_path / "lock") as other:
        assert other.stdin is not None
        threading.Timer(0.8, other.stdin.close).start()
        with held_lock(tmp_path / "lock"):
            pass


def test_a_note_that_a_kill_left_is_not_repeated(tmp_path: Path) -> None:
    with holding(tmp_path / "lock") as other:
        other.send_signal(signal.SIGKILL)
    assert str(other.pid) in (tmp_path / "lock").read_text()
    assert holder_of(tmp_path / "lock") is None
    with held_lock(tmp_path / "lock", wait_s=0.0):
        pass


def test_a_holder_on_another_host_is_named_with_its_host(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.fail("unshare is needed: apt-get install util-linux")
    before = ("unshare", "--uts", "sh", "-c", 'hostname build-7; exec "$@"', "sh")
    with holding(tmp_path / "lock", before=before):
        failed = refused(tmp_path / "lock", wait_s=0.0)
    assert "of user root on build-7 (fetching" in str(failed.why)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write, at a place that everybody may reach."""
    folder = Path("/tmp") / f"relforge-test-locks-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_another_user_can_hold_and_is_named(shared: Path) -> None:
    """The tests run as root, which may do anything; the other user is one who may not."""
    umask = os.umask(0o077)
    try:
        with held_lock(shared / "lock"):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE((shared / "lock").stat().st_mode) & 0o066 == 0o066
    with holding(shared / "lock", str(NOBODY)):
        failed = refused(shared / "lock", wait_s=0.0)
    assert "of user nobody (fetching" in str(failed.why)


def test_a_lock_that_cannot_be_written_is_a_lock_all_the_same(shared: Path) -> None:
    (shared / "lock").write_text("")
    (shared / "lock").chmod(0o644)
    with holding(shared / "lock", str(NOBODY)):
        failed = refused(shared / "lock", wait_s=0.0)
    assert failed.why == "another process holds it"
    assert (shared / "lock").read_text() == ""


def test_a_lock_in_a_private_folder_stays_private(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with held_lock(tmp_path / "private" / "lock"):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "private" / "lock").stat().st_mode) == 0o644


def test_a_lock_file_that_is_deleted_meanwhile_never_has_two_holders(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside: list[str] = []
    stop = time.monotonic() + 2.0

    def work(name: str) -> None:
        while time.monotonic() < stop:
            with held_lock(path):
                inside.append(name)
                assert inside == [name]
                inside.remove(name)
                path.unlink()  # the last that is done while it is held

    failures: list[BaseException] = []

    def guarded(name: str) -> None:
        try:
            work(name)
        except BaseException as error:  # noqa: BLE001 (told to the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


USE = """
import sys
from pathlib import Path
from relforge.in_use import alone, using
kind = using if sys.argv[2] == "using" else alone
more = {} if sys.argv[2] == "using" else {"wait": False, "on_wait": print}
with kind(Path(sys.argv[1]), "a purpose", **more):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(home: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", USE, str(home), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


def test_several_may_use_a_home_and_a_collector_is_told_who(tmp_path: Path) -> None:
    with another(tmp_path, "using") as first, using(tmp_path, "mine"):
        assert {one.pid for one in users(tmp_path)} == {first.pid, os.getpid()}
        collecting = alone(tmp_path, "collecting", wait=False, on_wait=print)
        with pytest.raises(RelforgeError) as failed, collecting:
            pass
        assert failed.value.code is ExitCode.ENVIRONMENT
        assert f"process {first.pid} of user root (a purpose" in str(failed.value.why)
    assert users(tmp_path) == []
    with alone(tmp_path, "collecting", wait=False, on_wait=print):
        pass


def test_who_comes_while_a_collector_works_waits_for_it(tmp_path: Path) -> None:
    told: list[str] = []
    with another(tmp_path, "alone") as collector:
        with not_waiting(), pytest.raises(RelforgeError) as failed, using(tmp_path, "mine"):
            pass
        assert f"process {collector.pid} of user root (a purpose" in str(failed.value.why)
        assert collector.stdin is not None
        threading.Timer(0.5, collector.stdin.close).start()
        with using(tmp_path, "mine", on_wait=told.append):
            pass
    assert len(told) == 1
    assert f"process {collector.pid}" in told[0]


def test_whoever_was_killed_uses_nothing_any_more(tmp_path: Path) -> None:
    with another(tmp_path, "using") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        assert users(tmp_path) == []
        with alone(tmp_path, "collecting", wait=False, on_wait=print):
            assert list((tmp_path / "locks" / "users").iterdir()) == []
