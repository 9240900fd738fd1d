"""One ordinary Ray node in the foreground, started by ``ray start``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.executor.ray_cluster import NAME_LABEL, imported
from relforge.executor.ray_host import WorkerPlace, worker_environment
from relforge.frozen import Frozen

_GRACE_S = 20.0
_STARTS = 4
_TOO_SLOW = "timed out during startup"
_TAIL_LINES = 15
_POLL_S = 0.2
_LONGEST_FOLDER = 40
"""Ray's sockets lie below its folder, and a socket's path has at most 107 characters."""


class Node(Frozen):
    """How a node joins: by ``address`` of the head, or as the head on ``port`` of ``ip``."""

    address: str | None
    ip: str | None
    port: int
    resources: dict[str, float]
    object_store_bytes: int
    cpu_cores: int | None = None
    environment: dict[str, str] = {}
    """Beside this process's own."""

    def argv(self, name: str, folder: Path) -> list[str]:
        """The words of ``ray start``; its folder for sessions, sockets and spilled objects."""
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        if self.address is None:
            words += ["--head", f"--port={self.port}", "--include-dashboard=false"]
        else:
            words += [f"--address={self.address}"]
        if self.ip is not None:
            words += [f"--node-ip-address={self.ip}"]
        if self.cpu_cores is not None:
            words += [f"--num-cpus={self.cpu_cores}"]
        return [
            *words,
            f"--temp-dir={folder}",
            f"--object-store-memory={self.object_store_bytes}",
            f"--resources={json.dumps(self.resources)}",
            f"--labels={NAME_LABEL}={name}",
            "--include-log-monitor=false",
            "--disable-usage-stats",
        ]


def run_node(node: Node, place: WorkerPlace, cancel: CancelToken, ready: Path) -> None:
    """Runs until *cancel* is set; the node then leaves the cluster. ``ready`` is Ray's own log.

    Raises RelforgeError (ENVIRONMENT) when the node cannot start, or ends by itself.
    """
    imported()
    said: str | None = _TOO_SLOW
    starts = 0
    # A busy host may take longer than the half minute that Ray gives its own processes.
    while said is not None and _TOO_SLOW in said and starts < _STARTS:
        said, starts = _one_node(node, place, cancel, ready), starts + 1
    if said is None:
        return
    raise RelforgeError(
        "the Ray node ended",
        code=ExitCode.ENVIRONMENT,
        where=node.address or place.name,
        why="\n".join(said.splitlines()[-_TAIL_LINES:]),
        hint="start the head first, and see that this host reaches it; both have the same "
        "versions of Ray and Python",
        log=str(ready),
    )


def _one_node(node: Node, place: WorkerPlace, cancel: CancelToken, ready: Path) -> str | None:
    """Runs until *cancel* is set (None), or the node ends by itself: what it said."""
    with _short(place.home / "ray" / "node") as folder, ready.open("wb") as log:
        child = subprocess.Popen(
            [*proc.dying_with_us(), *node.argv(place.name, folder)],
            env=worker_environment(place, {**os.environ, **node.environment}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                cancel.sleep(_POLL_S)
        except Cancelled:
            return None
        finally:
            _end(child)
    return ready.read_text(errors="replace")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the node: first by its own way out, which leaves the cluster, then its whole session."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _GRACE_S
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    for pid in _session(child.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child.wait()


def _session(leader: int) -> Iterator[int]:
    """Processes of the session that *leader* began (proc(5), stat, field 6)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            yield int(entry.name)


@contextmanager
def _short(folder: Path) -> Iterator[Path]:
    """The folder, emptied of earlier sessions, under a name that is short enough for sockets."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    if len(str(folder)) <= _LONGEST_FOLDER:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rf-") as short:
        link = Path(short) / "r"
        link.symlink_to(folder)
        yield link
