"""The Docker hosts that other tests use leave nothing behind, also when the test is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.engine.test_containers import ROOT, empty_root
from tests.support.docker_hosts import docker_hosts, folders, interface_prefix

# One container runs when it is killed, and says where it is.
KILLED = """\
import os, subprocess, sys
from tests.support.docker_hosts import docker_hosts
with docker_hosts(1) as (host,):
    load = ["docker", "--host", host.socket, "import", "-", "empty:1"]
    subprocess.run(load, input=sys.stdin.buffer.read(), check=True, stdout=subprocess.DEVNULL)
    host.docker("run", "--detach", "--network", "host", "--mount",
                "type=bind,source=/usr,target=/usr,readonly", "empty:1", "sleep", "987654")
    print(host.folder, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_test_left_is_gone() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said, _ = child.communicate(empty_root(), timeout=60)
    assert child.returncode == -signal.SIGKILL
    folder = Path(said.decode().strip()).parent
    deadline = time.monotonic() + 10
    while running := processes(folder.name, "sleep 987654"):
        assert time.monotonic() < deadline, f"it outlived the test: {running}"
        time.sleep(0.1)
    while left := list(Path("/sys/class/net").glob(f"{interface_prefix(child.pid)}*")):
        assert time.monotonic() < deadline, f"interfaces are left: {left}"
        time.sleep(0.1)
    assert folder.name not in Path("/proc/self/mountinfo").read_text()
    assert folder in folders(), "files alone are left"
    with docker_hosts(1):
        assert folder not in folders()
        groups = Path("/sys/fs/cgroup")
        assert not [*groups.glob(folder.name), *groups.glob(f"*/{folder.name}")]


def processes(*texts: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if any(text in words for text in texts) and int(process.name) != os.getpid():
            found.append(words)
    return found
