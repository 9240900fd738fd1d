"""From a release, its device and its hosts to the launch spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from relforge.engine.container_spec import Mount, PublishedPort
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.facts import LaunchProfile
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.manifest.serve import Tmpfs
from relforge.serving.commands import docker_argv, exec_script, with_files
from relforge.serving.engines import ServingEngine, engine_of
from relforge.serving.engines.base import PLAIN, ServerCommand
from relforge.serving.model import LaunchSpec, Node
from relforge.serving.mounts import (
    apart,
    device_mount,
    known_mounts,
    own_mounts,
    refused,
    weight_mounts,
)
from relforge.serving.parts import Part, parts_of
from relforge.serving.place import Place, numbered
from relforge.serving.proxy import proxy_command

_SHM = "/dev/shm"  # noqa: S108 (a path in the container)


def launch_spec(
    release: Release,
    device: Device,
    *,
    image: str,
    weights: Path,
    weight_files: Iterable[str] | None = None,
    name: str | None = None,
    host_port: int | None = None,
    hosts: Sequence[HostNode] | None = None,
    mounts: Mapping[str, Path] | None = None,
    local: str | None = None,
) -> LaunchSpec:
    """The launch of *release* from *image* (id or digest) with the weights in folder *weights*.

    The folder is mounted read-only at ``serve.model_path``, and that is the path the server is
    told: they cannot differ. With ``weight_files`` these are mounted, one by one, and nothing else
    that may lie beside them: what was not pinned does not take part. ``host_port`` None lets the
    engine choose a free one. ``hosts`` are in order of rank; without them the launch is of as many
    hosts as the release asks for, of which nothing is known. ``mounts`` are host paths for the
    release's mounts, by name, before those of the hosts and of the manifest. ``local`` is a step
    of inference without a server, where the engine has such. Raises RelforgeError (USAGE) when the
    release asks for what its device, hosts or relforge does not have.
    """
    serve = release.serve
    model_path = serve.model_path.replace("{model}", release.model)
    if not model_path.startswith("/"):
        raise refused(
            release,
            f"serve.model_path {model_path!r} is not an absolute path",
            hint="give a path inside the container, such as /models/{model}",
        )
    profile = _profile(release, device)
    if serve.nodes > 1 and "host" not in (serve.network, profile.network):
        raise refused(
            release,
            f"{serve.nodes} nodes cannot reach each other from the engine's own network",
            why="ranks talk on ports that they choose themselves",
            hint="set serve.network to host",
        )
    given = tuple(hosts) if hosts is not None else numbered(serve.nodes, release)
    known_mounts(release, given, mounts or {})
    parts = parts_of(release, given)
    files = tuple(weight_files) if weight_files is not None else None
    server = engine_of(release.engine)
    nodes: list[Node] = []
    for part in parts:
        for place in _places(part, name):
            command = (
                proxy_command(release, part.proxy, place, given)
                if part.proxy is not None
                else _command(server, part.release, model_path, place, local)
            )
            nodes.append(
                _node(
                    part,
                    _NO_DEVICE if part.proxy is not None else profile,
                    place,
                    command,
                    image=image,
                    model_path=model_path,
                    mounts=(
                        *(device_mount(text, device) for text in _profile_mounts(profile, part)),
                        *own_mounts(part.release, place.host, mounts or {}, command.mounts),
                    ),
                    weights=None
                    if part.proxy is not None or local is not None
                    else (Path(place.host.weights or weights.absolute()), files),
                    health_port=serve.port if part.proxy else server.health_port(part.release),
                    host_port=host_port,
                    host=place.host.name if hosts is not None or len(given) > 1 else "",
                )
            )
    health_port = serve.port if serve.proxy is not None else server.health_port(release)
    return LaunchSpec(
        release=release.name,
        served_name=serve.served_name,
        health_path=serve.proxy.health_path if serve.proxy is not None else server.health_path,
        health_port=None if health_port == serve.port else health_port,
        ready_timeout_s=serve.ready_timeout_s,
        nodes=tuple(nodes),
        traits=PLAIN if serve.proxy is not None else server.traits,
    )


def _profile_mounts(profile: LaunchProfile, part: Part) -> tuple[str, ...]:
    return profile.mounts if part.proxy is None and part.release.serve.profile_mounts else ()


# What runs beside the servers needs no accelerator; the host's network it shares with them.
_NO_DEVICE = LaunchProfile(name="toolkit")


def _command(
    engine: ServingEngine, release: Release, model_path: str, place: Place, local: str | None
) -> ServerCommand:
    if local is None:
        return engine.command(release, model_path, place)
    steps = getattr(engine, "local", None)
    if steps is None:
        raise refused(
            release,
            f"engine {release.engine!r} has no inference without a server",
            hint="leave --local out",
        )
    found: ServerCommand = steps(release, local, place)
    return found


def _places(part: Part, name: str | None) -> tuple[Place, ...]:
    serve = part.release.serve
    container = name or f"relforge-{part.release.name}"
    return tuple(
        Place(
            release=part.release.name,
            container=f"{container}-{part.name}" if part.name else container,
            rank=rank,
            hosts=part.hosts,
            accelerators=0 if part.proxy is not None else serve.accelerators // serve.nodes,
        )
        for rank in range(len(part.hosts))
    )


def _node(
    part: Part,
    profile: LaunchProfile,
    place: Place,
    server: ServerCommand,
    *,
    image: str,
    model_path: str,
    mounts: tuple[Mount, ...],
    weights: tuple[Path, tuple[str, ...] | None] | None,
    health_port: int,
    host_port: int | None,
    host: str,
) -> Node:
    release, serve = part.release, part.release.serve
    network = serve.network or profile.network
    env = {**profile.env, **serve.env}
    weighty: tuple[Mount, ...] = ()
    if weights is not None:
        folder, files = weights
        weighty = (
            (Mount(host=folder, container=model_path, read_only=False),)
            if server.writes_weights
            else weight_mounts(folder, model_path, files)
        )
    ports = dict.fromkeys((serve.port, health_port)) if server.answers else {}
    return Node(
        name=place.container,
        host=host,
        address=place.host.address,
        context=place.host.context,
        image=image,
        argv=with_files(server.argv, server.files),
        env={
            **server.env,
            **{key: place.fill(value, f"serve.env.{key}") for key, value in env.items()},
        },
        shm_bytes=None if _SHM in serve.tmpfs else serve.shm_bytes,
        memory_bytes=serve.memory_bytes,
        devices=_distinct(_nodes_devices((*profile.devices, *serve.devices), place.accelerators)),
        mounts=apart(release, (*weighty, *mounts)),
        tmpfs={path: _tmpfs_options(tmpfs) for path, tmpfs in serve.tmpfs.items()},
        # On the host's own network every port is reachable as it is.
        ports=()
        if network == "host"
        else tuple(
            PublishedPort(container=port, host=host_port if port == serve.port else None)
            for port in ports
        ),
        group_add=profile.group_add,
        cap_add=_distinct((*profile.cap_add, *serve.cap_add)),
        security_opt=_distinct((*profile.security_opt, *serve.security_opt)),
        ulimits={**profile.ulimits, **serve.ulimits},
        ipc=serve.ipc or profile.ipc,
        pid=serve.pid,
        uts=serve.uts,
        workdir=serve.workdir,
        network=network,
        gpus=profile.gpus,
        runtime=profile.runtime,
        privileged=profile.privileged,
        healthcheck=server.answers and place.rank == 0,
        role=part.role,
        rendezvous_port=release.serve.rendezvous_port if server.meets_here else None,
        port=serve.port,
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _nodes_devices(devices: Iterable[str], per_node: int) -> Iterator[str]:
    """Device files with ``{index}`` filled in, once for each accelerator of a node."""
    for device in devices:
        if "{index}" in device:
            yield from (device.replace("{index}", str(index)) for index in range(per_node))
        else:
            yield device


def _tmpfs_options(tmpfs: Tmpfs) -> str:
    exec_ = "exec" if tmpfs.executable else "noexec"
    return f"rw,nosuid,nodev,{exec_},size={tmpfs.size_bytes}"


def _profile(release: Release, device: Device) -> LaunchProfile:
    """The profile the release names, else the device's first: the least privilege it declares."""
    profiles = device.profiles
    declared = {profile.name: profile for profile in profiles}
    wanted = release.serve.profile
    if not declared or (wanted and wanted not in declared):
        raise RelforgeError(
            f"device {device.name} declares no launch profile"
            + (f" {wanted!r}" if wanted and declared else ""),
            code=ExitCode.USAGE,
            where=f"release {release.name}, serve.profile",
            why=f"declared are: {', '.join(declared) or 'none'}",
            hint=f"add it to launch_profiles of the device manifest {device.name}",
        )
    return declared[wanted] if wanted else profiles[0]


__all__ = ["LaunchSpec", "Node", "docker_argv", "exec_script", "launch_spec"]
