"""Debian's docker-registry on a free port of loopback: plain, with a login, TLS or tokens."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from relforge.manifest.site import EngineSite, Site

USER, PASSWORD = "publisher", "correct-horse-battery"


@dataclass(frozen=True)
class RealRegistry:
    host: str
    data: Path
    log: Path

    def has(self, digest: str) -> bool:
        algorithm, _, value = digest.partition(":")
        return (
            self.data / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"
        ).is_file()

    def tags(self, name: str) -> list[str]:
        """As they lie on the disk, whatever the program says."""
        folder = self.data / "docker/registry/v2/repositories" / name / "_manifests/tags"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def requests(self, method: str) -> int:
        """How many requests of a kind it has answered."""
        text = self.log.read_text(errors="replace")
        return sum(f'"{method} /v2/' in line for line in text.splitlines())


@contextmanager
def docker_registry(
    work: Path,
    *,
    login: bool = False,
    tls: tuple[Path, Path] | None = None,
    delete: bool = True,
    auth: dict[str, Any] | None = None,
) -> Iterator[RealRegistry]:
    """The registry while this is open; its data stay in ``work``. ``tls``: certificate and key."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is needed: apt-get install docker-registry")
    work.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(work / "data")},
            "delete": {"enabled": delete},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "the tests' own"},
    }
    if tls is not None:
        config["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
    if login:
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (work / "htpasswd").write_text(f"{USER}:{hashed}\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(work / "htpasswd")}}
    if auth is not None:
        config["auth"] = auth
    (work / "config.yml").write_text(json.dumps(config))
    log = work / "log"
    with running([program, "serve", str(work / "config.yml")], port, log):
        yield RealRegistry(f"127.0.0.1:{port}", work / "data", log)


def logged_in(folder: Path, *hosts: str, user: str = USER, password: str = PASSWORD) -> Site:
    """A site whose Docker settings hold a login for these registries."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config = {"auths": {host: {"auth": auth} for host in hosts}}
    (folder / "config.json").write_text(json.dumps(config))
    return Site(engine=EngineSite(config_dir=folder))


@contextmanager
def running(argv: list[str], port: int, log: Path) -> Iterator[None]:
    """A server that listens on that port of loopback while this is open."""
    with log.open("wb") as words:
        server = subprocess.Popen(argv, stdout=words, stderr=words)
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{argv[0]} does not start"
            time.sleep(0.02)
        yield
    finally:
        server.kill()
        server.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
