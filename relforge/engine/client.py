"""The connection to the container engine (docker SDK), or one clear error within 3 seconds."""

from __future__ import annotations

import os
import shlex
import socket
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_HOST = "unix:///var/run/docker.sock"
_CONNECT_TIMEOUT_S = 2
_SSH_CONNECT_TIMEOUT_S = 15
_CALL_TIMEOUT_S = 120


def engine_host(site: EngineSite | None = None) -> str:
    """The engine's address: the site configuration's, else DOCKER_HOST, else the usual socket."""
    return (site.host if site else None) or os.environ.get("DOCKER_HOST") or DEFAULT_HOST


def connect(site: EngineSite | None = None) -> DockerClient:
    """A client of an engine that answers.

    Raises RelforgeError (ENVIRONMENT) within 3 s when none does; behind ``ssh://``, where the
    system's ssh client is used, within 20 s. The caller closes the client.
    """
    from docker.errors import DockerException
    from requests import RequestException

    host = engine_host(site)
    try:
        if host.startswith("ssh://"):
            from relforge.engine.ssh import through_ssh

            client = through_ssh(host, timeout_s=_SSH_CONNECT_TIMEOUT_S)
        else:
            client = _directly(host)
    except (DockerException, RequestException, OSError, ValueError) as error:
        raise _not_answering(host, error) from error
    client.api.timeout = _CALL_TIMEOUT_S
    return client


def _directly(host: str) -> DockerClient:
    import docker
    from docker.utils import kwargs_from_env

    _knock(host)
    settings = kwargs_from_env(environment={**os.environ, "DOCKER_HOST": host})
    client = docker.DockerClient(timeout=_CONNECT_TIMEOUT_S, **settings)
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


def _knock(host: str) -> None:
    """Raises OSError when nobody listens on a local socket: sooner and plainer than the SDK."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as local:
            local.settimeout(_CONNECT_TIMEOUT_S)
            local.connect(host.removeprefix("unix://"))


def _not_answering(host: str, error: Exception) -> RelforgeError:
    why = str(error).strip() or type(error).__name__
    if host.startswith("ssh://"):
        from relforge.engine.ssh import ssh_argv

        hint = f"make this work first: {shlex.join(ssh_argv(host, 'version'))}"
    elif "Permission denied" in why:
        hint = "run as root, or as a user who may use the engine (often: of the group 'docker')"
    else:
        hint = (
            "scripts/engine up (starts one on Debian), or start your own; another address goes "
            "into engine.host of the site configuration or into DOCKER_HOST"
        )
    return RelforgeError(
        "the container engine does not answer",
        code=ExitCode.ENVIRONMENT,
        where=host,
        why=why,
        hint=hint,
    )
