"""A real ssh server on a Docker host of a test, and a client configuration that knows its way."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_hosts import DIES_WITH_US, Host, run

_START_S = 20
# The server sees the machine's files, but for who root is and who may log in.
_WITH_USERS = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'


@dataclass(frozen=True)
class SshServer:
    context: str
    """What a nodes file says."""
    client: Path
    """A folder for the front of PATH: its ``ssh`` is the system's, with a configuration."""
    config: Path
    log: Path

    @property
    def path(self) -> str:
        return f"{self.client}:{os.environ['PATH']}"


@contextmanager
def ssh_server(
    host: Host, folder: Path, *, programs: str | None = None, port: int = 2222
) -> Iterator[SshServer]:
    """Dropbear in the network of *host*; commands find its engine, and *programs* as PATH.

    It needs no user, service or configuration of the machine's. Gone when the block is left.
    """
    for program in ("dropbear", "dropbearkey", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is needed: apt-get install dropbear-bin openssh-client")
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    shutil.copy(folder / "key.pub", home / ".ssh" / "authorized_keys")
    run("dropbearkey", "-t", "ed25519", "-f", folder / "host-key")
    known = run("dropbearkey", "-y", "-f", folder / "host-key").splitlines()
    public = next(line for line in known if line.startswith("ssh-ed25519 "))
    (folder / "known_hosts").write_text(f"[{host.address}]:{port} {public}\n")
    (folder / "passwd").write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
    (folder / "command").write_text(
        f"#!/bin/sh\nexport PATH={shlex.quote(programs or os.environ['PATH'])}\n"
        f"export DOCKER_HOST={shlex.quote(host.socket)}\n"
        'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (folder / "command").chmod(0o755)
    server = (
        *("dropbear", "-F", "-E", "-m", "-s", "-r", folder / "host-key"),
        *("-p", f"{host.address}:{port}", "-P", folder / "pid", "-c", folder / "command"),
    )
    words = ("unshare", "--mount", "sh", "-c", _WITH_USERS, "sh", folder / "passwd", *server)
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen((*DIES_WITH_US, *host.inside(*words)), stdout=log, stderr=log)
    try:
        _wait_for((host.address, port), child, folder / "log")
        yield SshServer(
            f"ssh://root@{host.address}:{port}",
            _client(folder),
            folder / "config",
            folder / "log",
        )
    finally:
        child.kill()
        child.wait()


def _client(folder: Path) -> Path:
    (folder / "config").write_text(
        f"IdentityFile {folder / 'key'}\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {folder / 'known_hosts'}\nStrictHostKeyChecking yes\n"
    )
    client = folder / "client"
    client.mkdir()
    program = client / "ssh"
    program.write_text(
        f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(folder / "config"))} "$@"\n'
    )
    program.chmod(0o755)
    return client


def _wait_for(place: tuple[str, int], child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "dropbear does not listen"
        with socket.socket() as probe:
            if probe.connect_ex(place) == 0:
                return
        time.sleep(0.05)
