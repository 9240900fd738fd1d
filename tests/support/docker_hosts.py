"""Several Docker hosts on one machine: a daemon each, in a network of its own, joined by a switch.

Every host is one process tree in namespaces of its own (network, mounts, processes) whose first
process dies with the test; the kernel then ends all of its processes, mounts and interfaces,
containers included. Only files and control groups can stay behind a killed test: they are named
after it and removed at the next start. Needs root, iproute2, util-linux and dockerd on PATH.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from relforge import leftovers

TCP_PORT = 2375
_PLACE = Path(tempfile.gettempdir()) / "relforge-docker-hosts"
_CGROUPS = Path("/sys/fs/cgroup")
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_START_S = 60
_LINK_S = 15
# The daemon starts when its cable is in; its shims keep their sockets in a /run of its own.
_WHEN_PLUGGED_IN = """\
mount -t tmpfs tmpfs /run || exit
until [ -e "$1" ]; do sleep 0.02; done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Host:
    """One Docker host. ``address`` and ``interface`` are its own, inside its network."""

    name: str
    address: str
    interface: str
    folder: Path
    pid: int
    switch_pid: int
    port: str
    """Where its cable ends in the switch."""

    @property
    def socket(self) -> str:
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def tcp(self) -> str:
        return f"tcp://{self.address}:{TCP_PORT}"

    def docker(self, *words: str | Path) -> str:
        """What a docker command on this host prints."""
        return run("docker", "--host", self.socket, *words)

    def inside(self, *words: str | Path) -> tuple[str | Path, ...]:
        """A command in this host's network."""
        return ("nsenter", "--net", "--target", str(self.pid), "--", *words)

    def containers(self) -> list[str]:
        return self.docker("ps", "--all", "--format", "{{.Names}}").split()

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Within the block its cable is out: only its Unix socket can be reached."""
        _in_network(self.switch_pid, "ip", "link", "set", self.port, "down")
        try:
            yield
        finally:
            _in_network(self.switch_pid, "ip", "link", "set", self.port, "up")
            self._wait_for_link()

    def _wait_for_link(self) -> None:
        """The kernel takes up to a second to tell both ends, and until then has no route."""
        deadline = time.monotonic() + _LINK_S
        while True:
            try:
                socket.create_connection((self.address, TCP_PORT), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, f"{self.name} cannot be reached again"
                time.sleep(0.05)


@contextmanager
def docker_hosts(count: int = 2, image: str | None = None) -> Iterator[tuple[Host, ...]]:
    """Hosts ``first``, ``second``, ... whose daemons answer; gone when the block is left.

    Each has *image*, an image by name of the engine that the tests use.
    """
    for program in ("dockerd", "ip", "nsenter", "unshare", "setpriv"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is needed (scripts/test brings it), and root to start it")
    _sweep()
    with ExitStack() as stack:
        folder = stack.enter_context(leftovers.owned_folder(_place(), "hosts"))
        stack.callback(_remove_cgroups, folder.name)
        network = _free_network()
        switch = stack.enter_context(_process(("unshare", "--net", "sleep", "infinity"), folder))
        _build_switch(switch.pid, network)
        hosts: list[Host] = []
        for number, name in zip(range(count), ("first", "second", "third", "fourth"), strict=False):
            own = folder / str(number)
            own.mkdir()
            if image is not None and hosts:
                _share_images(hosts[0].folder / "data", own / "data")
            daemon = stack.enter_context(_process(_daemon(own, folder.name, network, number), own))
            address = str(network[number + 11])
            _plug_in(daemon.pid, switch.pid, f"port{number}", f"{address}/{network.prefixlen}")
            (own / "go").touch()
            host = Host(name, address, "eth0", own, daemon.pid, switch.pid, f"port{number}")
            _wait_for(host)
            if image is not None and not hosts:
                _load(image, host)
            hosts.append(host)
        yield tuple(hosts)


def _load(image: str, host: Host) -> None:
    load = ("docker", "--host", host.socket, "load")
    with subprocess.Popen(("docker", "save", image), stdout=subprocess.PIPE) as save:
        subprocess.run(load, stdin=save.stdout, check=True, capture_output=True, timeout=300)
    assert save.returncode == 0, f"docker save {image} failed"


def _share_images(ours: Path, new: Path) -> None:
    """The images of one data folder in another that has no daemon yet: unpacked only once.

    A daemon never writes into a layer below a container (overlay2): those are hard links. What it
    does write is copied.
    """
    new.mkdir()
    run("cp", "--archive", ours / "image", new / "image")
    run("cp", "--archive", "--link", ours / "overlay2", new / "overlay2")


def run(*words: str | Path) -> str:
    """What the command prints; the test fails with its stderr when it does."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{shlex.join(map(str, words))}: {done.stderr}"
    return done.stdout


def _daemon(
    own: Path, group: str, network: ipaddress.IPv4Network, number: int
) -> tuple[str | Path, ...]:
    """A daemon that keeps all it has in *own*, and knows no bridge and no firewall."""
    (own / "daemon.json").write_text("{}")
    dockerd = (
        "dockerd",
        *("--config-file", own / "daemon.json", "--data-root", own / "data"),
        *("--exec-root", own / "exec", "--pidfile", own / "pid"),
        *("--host", f"unix://{own / 'docker.sock'}"),
        *("--host", f"tcp://{network[number + 11]}:{TCP_PORT}", "--tls=false"),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false"),
        *("--ip-forward=false", "--ip-masq=false"),
        *("--storage-driver", "overlay2", "--group", "root"),
        *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{group}"),
    )
    return (
        *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("sh", "-c", _WHEN_PLUGGED_IN, "sh", own / "go", *dockerd),
    )


@contextmanager
def _process(words: Sequence[str | Path], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that dies with this one, however that ends. Its pid is that of its program."""
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            (*DIES_WITH_US, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_until_apart(child.pid)
        yield child
    finally:
        child.kill()
        child.wait()


def _wait_until_apart(pid: int) -> None:
    here = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + _START_S
    while Path(f"/proc/{pid}/ns/net").readlink() == here:
        assert time.monotonic() < deadline, "unshare gives no network"
        time.sleep(0.01)


def _in_network(pid: int, *words: str) -> None:
    run("nsenter", "--net", "--target", str(pid), "--", *words)


def _build_switch(pid: int, network: ipaddress.IPv4Network) -> None:
    """A bridge of its own network, where no rule of the machine's firewall applies."""
    _in_network(pid, "ip", "link", "add", "switch", "type", "bridge")
    _in_network(pid, "ip", "link", "set", "switch", "up")
    here = f"{interface_prefix(os.getpid())}{secrets.token_hex(2)}"
    run("ip", "link", "add", here, "type", "veth", "peer", "name", "machine", "netns", str(pid))
    _in_network(pid, "ip", "link", "set", "machine", "master", "switch", "up")
    run("ip", "address", "add", f"{network[1]}/{network.prefixlen}", "dev", here)
    run("ip", "link", "set", here, "up")


def _plug_in(pid: int, switch_pid: int, port: str, address: str) -> None:
    pair = ("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _in_network(switch_pid, *pair)
    _in_network(switch_pid, "ip", "link", "set", port, "master", "switch", "up")
    _in_network(pid, "ip", "link", "set", "lo", "up")
    _in_network(pid, "ip", "address", "add", address, "dev", "eth0")
    _in_network(pid, "ip", "link", "set", "eth0", "up")


def _free_network() -> ipaddress.IPv4Network:
    """A /24 of the block for benchmarks (RFC 2544) to which this machine has no route yet."""
    routes = run("ip", "-4", "route", "show", "table", "all")
    start = os.getpid()
    for number in range(start, start + 256):
        if f"198.19.{number % 256}." not in routes:
            return ipaddress.IPv4Network(f"198.19.{number % 256}.0/24")
    raise AssertionError("no free network in 198.19.0.0/16")


def _wait_for(host: Host) -> None:
    deadline = time.monotonic() + _START_S
    words = ("docker", "--host", host.socket, "version")
    while subprocess.run(words, capture_output=True).returncode != 0:
        log = (host.folder / "log").read_text()
        assert Path(f"/proc/{host.pid}").exists(), f"dockerd of {host.name} ended: {log}"
        assert time.monotonic() < deadline, f"dockerd of {host.name} does not answer: {log}"
        time.sleep(0.1)


def _place() -> Path:
    _PLACE.mkdir(mode=0o700, exist_ok=True)
    assert _PLACE.stat().st_uid == os.getuid(), f"{_PLACE} belongs to somebody else"
    return _PLACE


def _sweep() -> None:
    for gone in leftovers.sweep_folder(_place()):
        _remove_cgroups(gone.name)


def _remove_cgroups(name: str) -> None:
    """The control groups of one set of hosts; they are empty once its processes are gone."""
    for top in (*_CGROUPS.glob(f"*/{name}"), _CGROUPS / name):
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def interface_prefix(pid: int) -> str:
    """The beginning of the names of this machine's cables to the hosts that *pid* made."""
    return f"rlf{pid}x"  # with four more characters at most the 15 that a name may have


def folders() -> list[Path]:
    """The folders of all hosts that there are, or that a killed test left."""
    return sorted(_place().glob("hosts-*"))
