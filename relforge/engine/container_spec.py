"""One container, as data: what it is told to be, and what the engine says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from relforge.frozen import Frozen


class Mount(Frozen):
    """A host path inside the container; it must exist (the engine creates nothing)."""

    host: Path
    container: str
    read_only: bool = True


class PublishedPort(Frozen):
    """A container port reachable at ``address`` of the engine's host; ``host`` None: a free one."""

    container: int
    host: int | None = None
    address: str = "127.0.0.1"


class ContainerSpec(Frozen):
    """One container, complete: what ``docker run`` would be told. Sizes are bytes."""

    name: str
    image: str
    """An image id or digest: ``sha256:...``, or a reference the engine knows."""
    argv: tuple[str, ...]
    """The whole command; it replaces the image's entry point too."""
    env: dict[str, str] = {}
    shm_bytes: int | None = None
    memory_bytes: int | None = None
    devices: tuple[str, ...] = ()
    """``host[:container[:rwm]]``, as ``docker run --device`` takes them."""
    mounts: tuple[Mount, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    network: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    ulimits: dict[str, int] = {}
    """Soft and hard limit alike; -1 is no limit."""
    tmpfs: dict[str, str] = {}
    """Options by path, as ``docker run --tmpfs`` takes them."""
    ipc: str | None = None
    pid: str | None = None
    uts: str | None = None
    workdir: str | None = None
    gpus: Literal["all"] | None = None
    runtime: str | None = None
    privileged: bool = False
    healthcheck: bool = True
    """False: the image's own health check is not run, since no server answers here."""


class ContainerState(Frozen):
    """What the engine says about a container. ``error`` is why it could not be started."""

    status: Literal[
        "created", "running", "paused", "restarting", "removing", "exited", "dead", "gone"
    ]
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""

    @property
    def running(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    def shown(self) -> str:
        """The state in words, e.g. ``ended with exit status 1``."""
        if self.oom_killed:
            return f"was killed for memory (exit status {self.exit_code})"
        if self.status in ("exited", "dead"):
            number = self.exit_code or 0
            signal_note = f", signal {number - 128}" if 128 < number < 160 else ""
            return f"ended with exit status {number}{signal_note}"
        return f"is {self.status}"
