"""The launch spec: what is started to serve a release, always as a list of nodes."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relforge.engine.containers import ContainerSpec, Mount, PublishedPort
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.device import Device
from relforge.manifest.facts import LaunchProfile
from relforge.manifest.release import Release
from relforge.serving.engines import engine_of


class Node(ContainerSpec):
    """One host's part of a launch: a container and the port its server listens on inside it."""

    port: int


class LaunchSpec(Frozen):
    """Everything that is started to serve one release. The first node answers requests."""

    release: str
    served_name: str
    health_path: str
    ready_timeout_s: float
    nodes: tuple[Node, ...]

    def as_json(self) -> dict[str, Any]:
        """``{"release", "nodes": [{"name", "docker_argv", "exec_script", "env"}]}``."""
        return {
            "release": self.release,
            "nodes": [
                {
                    "name": node.name,
                    "docker_argv": list(docker_argv(node)),
                    "exec_script": exec_script(node),
                    "env": dict(node.env),
                }
                for node in self.nodes
            ],
        }


def launch_spec(
    release: Release,
    device: Device,
    *,
    image: str,
    weights: Path,
    weight_files: Iterable[str] | None = None,
    name: str | None = None,
    host_port: int | None = None,
) -> LaunchSpec:
    """The launch of *release* from *image* (id or digest) with the weights in folder *weights*.

    The folder is mounted read-only at ``serve.model_path``, and that is the path the server is
    told: they cannot differ. With ``weight_files`` these are mounted, one by one, and nothing else
    that may lie beside them: what was not pinned does not take part. ``host_port`` None lets the
    engine choose a free one. Raises RelforgeError (USAGE) when the release asks for what its device
    or relforge does not have.
    """
    serve = release.serve
    model_path = serve.model_path.replace("{model}", release.model)
    if not model_path.startswith("/"):
        raise RelforgeError(
            f"serve.model_path {model_path!r} is not an absolute path",
            code=ExitCode.USAGE,
            where=f"release {release.name}",
            hint="give a path inside the container, such as /models/{model}",
        )
    profile = _profile(release, device)
    engine = engine_of(release.engine)
    per_node = serve.tensor_parallel * serve.pipeline_parallel * serve.data_parallel
    node = Node(
        name=name or f"relforge-{release.name}",
        image=image,
        argv=engine.argv(release, model_path),
        env={**_nodes_env(profile.env, per_node), **serve.env},
        shm_bytes=serve.shm_bytes,
        memory_bytes=serve.memory_bytes,
        devices=tuple(_nodes_devices(profile.devices, per_node)),
        mounts=(
            *_weight_mounts(weights.absolute(), model_path, weight_files),
            *(_device_mount(text, device) for text in profile.mounts),
        ),
        ports=(PublishedPort(container=serve.port, host=host_port),),
        group_add=profile.group_add,
        cap_add=profile.cap_add,
        security_opt=profile.security_opt,
        ulimits=profile.ulimits,
        ipc=profile.ipc,
        network=profile.network,
        gpus=profile.gpus,
        runtime=profile.runtime,
        privileged=profile.privileged,
        port=serve.port,
    )
    return LaunchSpec(
        release=release.name,
        served_name=serve.served_name,
        health_path=engine.health_path,
        ready_timeout_s=serve.ready_timeout_s,
        nodes=(node,),
    )


def _nodes_devices(devices: Iterable[str], per_node: int) -> Iterator[str]:
    """Device files with ``{index}`` filled in, once for each accelerator of a node."""
    for device in devices:
        if "{index}" in device:
            yield from (device.replace("{index}", str(index)) for index in range(per_node))
        else:
            yield device


def _nodes_env(env: Mapping[str, str], per_node: int) -> dict[str, str]:
    indices = ",".join(str(index) for index in range(per_node))
    return {name: value.replace("{indices}", indices) for name, value in env.items()}


def _weight_mounts(folder: Path, model_path: str, files: Iterable[str] | None) -> tuple[Mount, ...]:
    if files is None:
        return (Mount(host=folder, container=model_path),)
    return tuple(Mount(host=folder / f, container=f"{model_path}/{f}") for f in sorted(files))


def docker_argv(node: Node) -> tuple[str, ...]:
    """The ``docker run`` command that starts the node the way relforge does."""
    words = ["docker", "run", "--rm", "--name", node.name]
    for port in node.ports:
        host = "" if port.host is None else str(port.host)
        words += ["--publish", f"{port.address}:{host}:{port.container}"]
    if node.network:
        words += ["--network", node.network]
    if node.shm_bytes is not None:
        words += ["--shm-size", str(node.shm_bytes)]
    if node.memory_bytes is not None:
        words += ["--memory", str(node.memory_bytes)]
    for device in node.devices:
        words += ["--device", device]
    for mount in node.mounts:
        words += ["--mount", _mount_word(mount)]
    for key, value in node.env.items():
        words += ["--env", f"{key}={value}"]
    for option, text in (
        ("--user", node.user),
        ("--runtime", node.runtime),
        ("--gpus", node.gpus),
        ("--ipc", node.ipc),
    ):
        if text:
            words += [option, text]
    for option, values in (
        ("--group-add", node.group_add),
        ("--cap-add", node.cap_add),
        ("--security-opt", node.security_opt),
        ("--ulimit", (f"{name}={value}" for name, value in node.ulimits.items())),
    ):
        for value in values:
            words += [option, value]
    if node.privileged:
        words.append("--privileged")
    return (*words, "--entrypoint", node.argv[0], node.image, *node.argv[1:])


def exec_script(node: Node) -> str:
    """The same server as a shell script for inside a container that runs already."""
    exports = [f"export {key}={shlex.quote(value)}" for key, value in node.env.items()]
    return "\n".join(["#!/bin/sh", "set -eu", *exports, f"exec {shlex.join(node.argv)}", ""])


def _mount_word(mount: Mount) -> str:
    # The engine's client reads this word as one line of CSV, so a comma in a path is quoted.
    fields = ["type=bind", f"source={mount.host}", f"target={mount.container}"]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields + ["readonly"] * mount.read_only)
    return line.getvalue()


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


def _device_mount(text: str, device: Device) -> Mount:
    parts = text.split(":")
    if len(parts) == 1:
        parts = [text, text]
    if (
        len(parts) > 3
        or not all(part.startswith("/") for part in parts[:2])
        or (len(parts) == 3 and parts[2] not in ("ro", "rw"))
    ):
        raise RelforgeError(
            f"the mount {text!r} is not host[:container[:ro|rw]] with absolute paths",
            code=ExitCode.USAGE,
            where=f"device {device.name}, launch_profiles.mounts",
        )
    return Mount(host=Path(parts[0]), container=parts[1], read_only=parts[2:] == ["ro"])
