"""From a typed spec to a container of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relforge.engine.container_spec import ContainerSpec
from relforge.engine.refusals import ImageMissing, engine_refused
from relforge.errors import ExitCode

if TYPE_CHECKING:
    from docker import DockerClient


def create(
    client: DockerClient, spec: ContainerSpec, labels: Mapping[str, str], release: str
) -> str:
    """Makes the container, and returns its id. Raises RelforgeError (ENVIRONMENT)."""
    from docker.errors import APIError, ImageNotFound

    try:
        api: Any = client.api  # this one call of the SDK has no types
        made = api.create_container_from_config(_config(client, spec, labels), spec.name)
    except ImageNotFound as error:
        raise ImageMissing(
            f"the engine has no image {spec.image}",
            code=ExitCode.ENVIRONMENT,
            where=f"container {spec.name}",
            why=error.explanation or str(error),
            hint=f"relforge build --release {release}",
        ) from error
    except APIError as error:
        raise engine_refused(spec, error) from error
    return str(made["Id"])


def _config(client: DockerClient, spec: ContainerSpec, labels: Mapping[str, str]) -> Any:
    from docker.types import DeviceRequest, Ulimit
    from docker.types import Mount as DockerMount

    api = client.api
    bindings: dict[int | str, Any] = {f"{p.container}/tcp": (p.address, p.host) for p in spec.ports}
    host_config = api.create_host_config(
        shm_size=spec.shm_bytes,
        mem_limit=spec.memory_bytes,
        devices=list(spec.devices) or None,
        mounts=[
            DockerMount(m.container, str(m.host), type="bind", read_only=m.read_only)
            for m in spec.mounts
        ],
        port_bindings=bindings or None,
        network_mode=spec.network,
        group_add=list(spec.group_add) or None,
        cap_add=list(spec.cap_add) or None,
        security_opt=list(spec.security_opt) or None,
        ulimits=[Ulimit(name=n, soft=v, hard=v) for n, v in spec.ulimits.items()] or None,
        tmpfs=dict(spec.tmpfs) or None,
        ipc_mode=spec.ipc,
        pid_mode=spec.pid,
        uts_mode=spec.uts,
        # What `--gpus all` asks for.
        device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if spec.gpus else None,
        runtime=spec.runtime,
        privileged=spec.privileged,
    )
    return api.create_container_config(
        spec.image,
        list(spec.argv[1:]),
        entrypoint=[spec.argv[0]],
        environment=dict(spec.env),
        labels=dict(labels),
        ports=[(p.container, "tcp") for p in spec.ports],
        user=spec.user,
        working_dir=spec.workdir,
        host_config=host_config,
    )


def start(client: DockerClient, spec: ContainerSpec, container_id: str) -> None:
    """Starts it. Raises RelforgeError (ENVIRONMENT), and StartFailed."""
    from docker.errors import APIError

    try:
        client.api.start(container_id)
    except APIError as error:
        raise engine_refused(spec, error) from error
