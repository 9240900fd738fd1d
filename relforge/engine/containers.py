"""Containers that never outlive their owner: started from a typed spec, removed on every way out.

Every container carries its owner (boot, process id, process start) as a label. The context manager
removes it on exceptions, Ctrl-C and SIGTERM; after ``kill -9`` the next ``sweep`` does.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from relforge import owner, redact
from relforge.engine.container_spec import ContainerSpec, ContainerState, Mount, PublishedPort
from relforge.engine.creating import create, start
from relforge.engine.execs import output_of
from relforge.engine.refusals import ImageMissing, StartFailed, not_removed
from relforge.engine.stopping import terminated_as_exception
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from docker import DockerClient

LABEL_OWNER = "org.relforge.owner"
LABEL_RUN = "org.relforge.run"
LABEL_RELEASE = "org.relforge.release"
LABEL_TOKEN = "org.relforge.token"  # noqa: S105 (an id, no password)
LABEL_PID_NAMESPACE = "org.relforge.pidns"
_LOG_TAIL_BYTES = 4 * 1024 * 1024
_STREAM_END_S = 5.0
_KILLED = 137


class Executed(NamedTuple):
    """How a further command in a container ended."""

    code: int
    stdout: bytes
    stderr: bytes


class Container:
    """A started container. ``exited`` is set as soon as it has ended, however it ended."""

    def __init__(
        self,
        client: DockerClient,
        container_id: str,
        name: str,
        log_path: Path,
        on_line: Callable[[str], None] | None,
    ) -> None:
        self.id = container_id
        self.name = name
        self.log_path = log_path
        self.exited = threading.Event()
        self._api = client.api
        self._on_line = on_line
        self._threads = [
            threading.Thread(target=self._follow_log, name=f"log {name}", daemon=True),
            threading.Thread(target=self._wait_for_end, name=f"wait {name}", daemon=True),
        ]

    def watch(self) -> None:
        """Begins to copy the log and to wait for the end; called once, after the start."""
        for thread in self._threads:
            thread.start()

    def inspect(self) -> Mapping[str, Any]:
        """The engine's own description (Engine API, ContainerInspect)."""
        found: Mapping[str, Any] = self._api.inspect_container(self.id)
        return found

    @property
    def image_id(self) -> str:
        """Manifest digest (containerd's image store) or config digest (the classic one)."""
        return str(self.inspect()["Image"])

    def state(self) -> ContainerState:
        """Its present state; ``gone`` when the engine no longer knows it."""
        from docker.errors import NotFound

        try:
            state = self.inspect()["State"]
        except NotFound:
            return ContainerState(status="gone")
        return ContainerState(
            status=state["Status"],
            exit_code=None if state["Running"] else state["ExitCode"],
            oom_killed=bool(state["OOMKilled"]),
            error=state.get("Error", ""),
        )

    def host_port(self, container_port: int) -> int | None:
        """The host's port that leads to *container_port*; None once the container has ended."""
        found = self.inspect()
        if found["HostConfig"]["NetworkMode"] == "host":
            return container_port
        bound = (found["NetworkSettings"].get("Ports") or {}).get(f"{container_port}/tcp")
        return int(bound[0]["HostPort"]) if bound else None

    def execute(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """Runs a further command in it to its end: exit status, and stdout with stderr after it.

        As they come, one would begin in the middle of the other's lines. Raises
        RelforgeError (ENVIRONMENT) when the engine does not run it.
        """
        try:
            made = self._api.exec_create(self.id, list(argv))
            stdout, stderr = output_of(self._api, made["Id"])
            code = int(self._api.exec_inspect(made["Id"])["ExitCode"])
            return code, stdout + stderr
        except _stream_errors() as error:
            raise self._did_not_run(argv[0], error) from error

    def run_beside(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Executed:
        """Like ``execute``, with stdout and stderr apart.

        A command that ends because the container did has the exit status 137.
        """
        try:
            made = self._api.exec_create(self.id, list(argv), environment=dict(env or {}))
            stdout, stderr = output_of(self._api, made["Id"])
            code = self._api.exec_inspect(made["Id"])["ExitCode"]
        except _stream_errors() as error:
            if not self.state().running:
                return Executed(_KILLED, b"", str(error).encode())
            raise self._did_not_run(argv[0], error) from error
        return Executed(_KILLED if code is None else int(code), stdout, stderr)

    def _did_not_run(self, program: str, error: Exception) -> RelforgeError:
        return RelforgeError(
            f"the engine could not run {program} in the container {self.name}",
            code=ExitCode.ENVIRONMENT,
            where=f"container {self.name}",
            why=str(error),
            hint=f"read its log: {self.log_path}",
        )

    def cpu_s(self) -> float | None:
        """Processor time that all its processes have used so far, in seconds of one core; None
        where the engine does not say, as of a container that has ended."""
        with suppress(*_stream_errors(), KeyError):
            stats = self._api.stats(self.id, stream=False, one_shot=True)
            return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
        return None

    def stop(self, timeout_s: float) -> ContainerState:
        """Sends SIGTERM and waits so long for its end; it is not killed when it goes on."""
        from docker.errors import APIError

        with suppress(APIError):  # it has ended already
            self._api.kill(self.id, signal="SIGTERM")
        self.exited.wait(timeout_s)
        return self.state()

    def kill(self) -> None:
        """Ends it at once; the context manager still removes it."""
        from docker.errors import APIError

        with suppress(APIError):  # it has ended already
            self._api.kill(self.id)

    def memory_peak_bytes(self) -> int | None:
        """Most memory used so far, page cache included; None where the kernel does not say.

        cgroup v1 reports it through the engine; with cgroup v2 it is read from ``memory.peak``
        (Linux 5.19), which works for an engine on this host. Only while the container runs.
        """
        stats = self._api.stats(self.id, stream=False, one_shot=True)
        peak = stats.get("memory_stats", {}).get("max_usage")
        if peak:
            return int(peak)
        with suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{self.inspect()['State']['Pid']}/cgroup").read_text().splitlines()
            group = next(line[3:] for line in lines if line.startswith("0::") and self.id in line)
            return int(Path(f"/sys/fs/cgroup{group}/memory.peak").read_text())
        return None

    def log_text(self) -> str:
        """The log so far (its last 4 MiB); complete once the container has ended."""
        if self.exited.is_set():
            self._threads[0].join(_STREAM_END_S)
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, 2)
                log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def finish(self) -> None:
        """Waits for the log's end; called after the container was removed."""
        for thread in self._threads:
            thread.join(_STREAM_END_S)

    def _follow_log(self) -> None:
        with self.log_path.open("wb") as log:
            rest = b""
            # The stream ends with the container; a lost engine ends it too, and `exited` tells.
            with suppress(*_stream_errors()):
                for chunk in self._api.logs(self.id, stream=True, follow=True):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self._write(log, line)
            if rest:
                self._write(log, rest)

    def _write(self, log: Any, line: bytes) -> None:
        text = redact.text(line.decode("utf-8", "replace").rstrip("\r"))
        log.write(text.encode() + b"\n")
        log.flush()
        if self._on_line is not None:
            self._on_line(text)

    def _wait_for_end(self) -> None:
        # Whatever ends the wait (removal, an engine that is gone), the container is not to be had.
        with suppress(*_stream_errors()):
            self._api.wait(self.id, timeout=None)
        self.exited.set()


def _stream_errors() -> tuple[type[Exception], ...]:
    from docker.errors import DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    return DockerException, RequestException, HTTPError, OSError, ValueError


@contextmanager
def running(
    client: DockerClient,
    spec: ContainerSpec,
    *,
    run_id: str,
    release: str,
    log_path: Path,
    on_line: Callable[[str], None] | None = None,
) -> Iterator[Container]:
    """Starts the container and removes it on every way out.

    ``log_path`` gets its stdout and stderr (redacted), ``on_line`` every line of them. Containers
    of owners that are gone are swept first. Raises RelforgeError (ENVIRONMENT) when image, port,
    device or mount is not to be had, and StartFailed when the command cannot be executed.
    """
    sweep(client)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    marks = labels(token, run_id=run_id, release=release)
    container: Container | None = None
    with terminated_as_exception():
        try:
            container_id = create(client, spec, marks, release)
            start(client, spec, container_id)
            container = Container(client, container_id, spec.name, log_path, on_line)
            container.watch()
            yield container
        finally:
            # In a thread of its own, so that a second Ctrl-C cannot stop it half-way. By token:
            # an interrupt may have come after the engine's work and before its answer.
            failures: list[Exception] = []
            remover = threading.Thread(target=_remove_token, args=(client, token, failures))
            remover.start()
            remover.join()
            if container is not None:
                container.finish()
            if failures:
                raise not_removed(spec, failures[0]) from failures[0]


def sweep(client: DockerClient) -> tuple[str, ...]:
    """Removes the containers whose owner process is gone; returns their names."""
    return tuple(name for id_, name in left_behind(client) if _remove(client, id_))


def left_behind(client: DockerClient) -> tuple[tuple[str, str], ...]:
    """Id and name of the containers whose owner process is gone.

    An owner of another boot or pid namespace may be alive on another host or in another container
    that shares this engine: what it started only counts once it no longer runs.
    """
    found = []
    for one in client.api.containers(all=True, filters={"label": LABEL_OWNER}):
        labels = one.get("Labels") or {}
        holder = owner.Owner.parse(labels.get(LABEL_OWNER, ""))
        if holder is None:
            continue
        here = labels.get(LABEL_PID_NAMESPACE) in (None, owner.pid_namespace())
        if holder.of_this_boot and here:
            gone = not holder.alive
        else:
            gone = one.get("State") in ("exited", "dead")
        if gone:
            name = one["Names"][0].lstrip("/") if one.get("Names") else one["Id"]
            found.append((one["Id"], name))
    return tuple(found)


def stop_release(client: DockerClient, release: str, run_prefix: str) -> tuple[str, ...]:
    """Removes the containers of a release whose run id begins so; returns their names.

    Whoever started them sees them end, and does not start them again.
    """
    removed = []
    for found in client.api.containers(all=True, filters={"label": f"{LABEL_RELEASE}={release}"}):
        run = (found.get("Labels") or {}).get(LABEL_RUN, "")
        if run.startswith(run_prefix) and _remove(client, found["Id"]):
            removed.append(found["Names"][0].lstrip("/") if found.get("Names") else found["Id"])
    return tuple(removed)


def labels(token: str, *, run_id: str, release: str) -> dict[str, str]:
    """The labels of a container that this process owns; ``token`` tells it from the others."""
    return {
        LABEL_OWNER: owner.current().text,
        LABEL_PID_NAMESPACE: owner.pid_namespace(),
        LABEL_RUN: run_id,
        LABEL_RELEASE: release,
        LABEL_TOKEN: token,
    }


def remove_labelled(client: DockerClient, label: str, value: str) -> int:
    """Ends and removes the containers with that label; how many. Raises what the SDK raises."""
    found = client.api.containers(all=True, filters={"label": f"{label}={value}"})
    return sum(_remove(client, one["Id"]) for one in found)


def _remove_token(client: DockerClient, token: str, failures: list[Exception]) -> None:
    try:
        remove_labelled(client, LABEL_TOKEN, token)
    except _stream_errors() as error:
        failures.append(error)


def _remove(client: DockerClient, container_id: str) -> bool:
    """Ends (SIGKILL: a server keeps no state) and removes; False when it was gone already."""
    from docker.errors import APIError, NotFound

    try:
        client.api.remove_container(container_id, force=True, v=True)
    except NotFound:
        return False
    except APIError as error:
        if "is already in progress" not in str(error):
            raise
    return True


__all__ = [
    "Container",
    "ContainerSpec",
    "ContainerState",
    "Executed",
    "ImageMissing",
    "Mount",
    "PublishedPort",
    "StartFailed",
    "labels",
    "remove_labelled",
    "running",
    "stop_release",
    "sweep",
]
