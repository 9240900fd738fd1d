"""A real Ray cluster on this machine: one ``relforge worker`` for each host, as a user starts it.

Each has a home and a site configuration of its own, and an address of its own on loopback, so that
Ray takes them for several hosts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relforge import proc
from relforge.manifest.site import Site
from relforge.manifest.site_file import load_site

CHECKOUT = Path(__file__).resolve().parents[2]
_START_S = 300
_OBJECT_STORE_BYTES = 100_000_000


@dataclass(frozen=True)
class Worker:
    """One host; ``pid`` is that of ``relforge worker``."""

    name: str
    home: Path
    site: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def node_pid(self) -> int:
        """The process of ``ray start``, which leads a session."""
        (child,) = children(self.process.pid)
        return child

    def kill(self) -> None:
        """The host is gone: every process of it at once, and none can say a word."""
        session = self.node_pid
        self.process.send_signal(signal.SIGSTOP)
        for pid in in_session(session):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def freeze(self, *, thaw: bool = False) -> None:
        """The host does not answer any more, as when its network is gone; or it does again."""
        for pid in in_session(self.node_pid):
            os.kill(pid, signal.SIGCONT if thaw else signal.SIGSTOP)


@dataclass
class Fleet:
    """A head, without anything that a job could need, and workers that joined it."""

    folder: Path
    address: str
    stack: ExitStack
    workers: dict[str, Worker]

    def site(self, home: Path, **ray: Any) -> Site:
        """A driver's site."""
        home.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"driver-{home.name}.yaml"
        token = str(token_of(self.folder))
        settings = {"address": self.address, "token_file": token, **ray}
        path.write_text(json.dumps({"home": str(home), "ray": settings}))
        return load_site(path)

    @property
    def token(self) -> Path:
        return token_of(self.folder)

    def join(
        self,
        name: str,
        *words: str,
        code: Path = CHECKOUT,
        ip: str | None = None,
        before: Sequence[str] = (),
        **site: Any,
    ) -> Worker:
        """A further host; ``words`` are options of ``relforge worker``, ``code`` its relforge,
        ``before`` what stands before the command."""
        number = len(self.workers) + 2
        ip = ip or f"{self.address.rpartition(':')[0].rpartition('.')[0]}.{number}"
        options = ("--address", self.address, *words)
        found = self.stack.enter_context(worker(self.folder, name, options, ip, site, code, before))
        self.workers[name] = found
        return found


@contextmanager
def fleet(folder: Path, *, cpus: int = 2, ip: str | None = None) -> Iterator[Fleet]:
    """A cluster with a head alone, at ``ip`` or somewhere on loopback; gone when the block is
    left."""
    # Not imported: Ray then keeps for good how it authenticates.
    if importlib.util.find_spec("ray") is None:
        pytest.fail("Ray is needed: pip install -e .[ray]")
    folder.mkdir(parents=True, exist_ok=True)
    # Of a block of loopback that is this process's own, so that clusters never meet.
    ip = ip or f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}.1"
    port = free_port(ip)
    with ExitStack() as stack:
        words = ("--head", "--port", str(port), "--cpus", str(cpus))
        head = stack.enter_context(worker(folder, "head", words, ip, {"limits": {}}))
        yield Fleet(folder, f"{ip}:{port}", stack, {"head": head})


@contextmanager
def worker(
    folder: Path,
    name: str,
    words: Sequence[str],
    ip: str,
    site: dict[str, Any],
    code: Path = CHECKOUT,
    before: Sequence[str] = (),
) -> Iterator[Worker]:
    """``relforge worker`` until the block is left; it then leaves the cluster by Ctrl-C."""
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "home": str(own / "home"),
        "ray": {"object_store_bytes": _OBJECT_STORE_BYTES, "token_file": str(token_of(folder))},
        # No engine is found there, unless the test names one.
        "engine": {"host": f"unix://{own / 'no-engine.sock'}"},
        **site,
    }
    path = own / "site.yaml"
    path.write_text(json.dumps(settings))
    log = own / "worker.log"
    argv = [
        *before, *proc.dying_with_us(), sys.executable, "-c",
        "from relforge.cli import main; main()",
        "worker", "--name", name, "--node-ip", ip, "--site", str(path), *words,
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, cwd=own, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={**os.environ, "PYTHONPATH": f"{code}:{CHECKOUT}", **_PATIENCE},
        )  # fmt: skip
    home = Path(settings["home"])
    found = Worker(name, home, path, log, process)
    try:
        _wait_for(found)
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


# A host that does not answer counts as lost after some seconds, not after half a minute.
_PATIENCE = {
    "RAY_health_check_initial_delay_ms": "10000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
}


def _wait_for(worker: Worker) -> None:
    ready = worker.home / "ray" / "node.log"
    deadline = time.monotonic() + _START_S
    while not (ready.is_file() and "Ray runtime started" in ready.read_text(errors="replace")):
        said = worker.log.read_text(errors="replace")
        assert worker.process.poll() is None, said
        assert time.monotonic() < deadline, f"{worker.name} does not join: {said}"
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """Processes that a process started and that are not gone."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


def in_session(leader: int) -> list[int]:
    """Processes of the session of that leader."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


# Ray reads it once a process: clusters of one test process have the same.
_TOKEN = secrets.token_hex(32)


def token_of(folder: Path) -> Path:
    """The cluster's own token; what lies in the user's home is nothing to it."""
    path = folder / "token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(_TOKEN)
    return path


def free_port(ip: str) -> int:
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])
