"""What a docker command needs that a test may lack, or may not touch. Standard library only."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relforge.card.execute.docker_words import DockerCall

_WHOLE = frozenset((
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/proc",
    "/root", "/run", "/sbin", "/srv", "/sys", "/usr", "/var", "/var/lib", "/var/run",
))  # fmt: skip
_CAPABILITIES = frozenset((
    "ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "DAC_READ_SEARCH", "BPF",
))  # fmt: skip
_DESTROYS = frozenset((
    "system prune", "volume rm", "volume prune", "network rm", "network prune", "rmi",
    "image prune", "prune", "builder prune", "buildx prune", "swarm", "service", "stack", "plugin",
    "context", "node", "secret", "config",
))  # fmt: skip
_OF_CONTAINERS = frozenset((
    "exec", "stop", "kill", "rm", "restart", "pause", "unpause", "rename", "update", "attach",
    "commit", "start", "wait",
))  # fmt: skip
_LOCAL_HOSTS = frozenset(("localhost", "[::1]"))


@dataclass(frozen=True)
class Need:
    """``kind``: ``hardware``, ``secret``, ``network``, ``reader`` (a blank that only a reader can
    fill), or ``host`` for what reaches into this machine."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Surroundings:
    """What there is. ``writable``: folders that containers may write to."""

    runtimes: tuple[str, ...] = ()
    gpus: bool = False
    writable: tuple[str, ...] = field(default=())


def docker_needs(call: DockerCall, there: Surroundings, folder: str) -> Iterator[Need]:
    """The needs of one call; ``folder`` is where relative paths start.

    Names of containers and images are not looked at: what is there is another's to know.
    """
    if call.verb in ("run", "create"):
        yield from _hardware(call, there)
        yield from _host(call, there, folder)
    elif call.verb == "exec" and call.has("privileged"):
        yield Need("host", "--privileged gives the container the whole machine")
    elif call.verb == "push":
        yield Need("network", "docker push publishes an image")
    elif call.verb == "login":
        yield Need("secret", "docker login asks for a password")
    elif call.verb in _DESTROYS or call.verb.partition(" ")[0] in _DESTROYS:
        yield Need("host", f"docker {call.verb} changes what others have in this engine")


def image_host(reference: str) -> str:
    """The registry of an image reference; Docker's own where it names none."""
    first, slash, _ = reference.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else "docker.io"


def is_local_host(host: str) -> bool:
    """Whether it is this machine, by name; a port may follow."""
    name = re.sub(r":\d+$", "", host)
    return name in _LOCAL_HOSTS or re.fullmatch(r"127(?:\.\d+){3}", name) is not None


def is_container_verb(call: DockerCall) -> bool:
    """Whether its operands are containers that it changes."""
    return call.verb in _OF_CONTAINERS


def _hardware(call: DockerCall, there: Surroundings) -> Iterator[Need]:
    for value in call.values("device"):
        path = value.partition(":")[0]
        if path.startswith("/") and not Path(path).exists():
            yield Need("hardware", f"--device: this host has no {path}")
    if call.values("gpus") and not there.gpus:
        yield Need("hardware", "--gpus: this host's engine hands out no GPUs")
    for value in call.values("runtime"):
        if value not in there.runtimes and not value.startswith("$"):
            yield Need("hardware", f"--runtime: this host's engine has no {value}")


def _host(call: DockerCall, there: Surroundings, folder: str) -> Iterator[Need]:
    if call.has("privileged"):
        yield Need("host", "--privileged gives the container the whole machine")
    for value in call.values("cap-add"):
        if value.upper().removeprefix("CAP_") in _CAPABILITIES:
            yield Need("host", f"--cap-add {value} gives the container power over the machine")
    for name in ("pid", "userns", "cgroupns"):
        if "host" in call.values(name):
            yield Need("host", f"--{name} host shows the container the machine's own")
    for value in call.values("device"):
        path = Path(value.partition(":")[0])
        if _is_disk(path):
            yield Need("host", f"--device {path} is a disk or the memory of this host")
    for source, read_only in call.binds:
        reason = _bind_reason(source, read_only, there.writable, folder)
        if reason:
            yield Need("host", reason)


def _bind_reason(source: str, read_only: bool, writable: Sequence[str], folder: str) -> str | None:
    if "$" in source:
        return None  # the stand-in for docker sees what it became
    path = os.path.realpath(Path(folder) / Path(source).expanduser())
    plain = os.path.normpath(Path(folder) / source)
    if path in _WHOLE or plain in _WHOLE:
        return f"it mounts {plain} of this host"
    if path.endswith(".sock"):
        return f"it mounts the socket {plain} of this host"
    inside = any(path == top or path.startswith(f"{top}/") for top in writable)
    if not read_only and not inside:
        return f"it mounts {plain} of this host, and may write there"
    return None


def _is_disk(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISBLK(mode) or str(path) in ("/dev/mem", "/dev/kmsg", "/dev/port")
