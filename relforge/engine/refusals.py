"""What the engine refuses, in words that say what to do about it."""

from __future__ import annotations

import re
from typing import Any

from relforge.engine.container_spec import ContainerSpec
from relforge.errors import ExitCode, RelforgeError

_PORT_TAKEN = re.compile(r"port is already allocated|address already in use")


class StartFailed(RelforgeError):
    """The engine made the container but could not start its command; ``why`` is what it said."""


class ImageMissing(RelforgeError):
    """The engine has no such image."""


def engine_refused(spec: ContainerSpec, error: Any) -> RelforgeError:
    """The error for an APIError of the SDK when a container was created or started."""
    said = error.explanation or str(error)
    where = f"container {spec.name}"
    if _PORT_TAKEN.search(said):
        wanted = ", ".join(f"{p.address}:{p.host}" for p in spec.ports if p.host)
        return RelforgeError(
            f"the port {wanted or 'of the container'} is in use",
            code=ExitCode.ENVIRONMENT,
            where=where,
            why=said,
            hint="stop what listens there (ss -ltnp shows it), or leave the port to the engine",
        )
    if "is already in use by container" in said:
        return RelforgeError(
            f"a container named {spec.name} exists already",
            code=ExitCode.ENVIRONMENT,
            where=where,
            why=said,
            hint=f"wait for the run that owns it to end, or: docker rm -f {spec.name}",
        )
    if "bind source path does not exist" in said:
        return RelforgeError(
            "a path to mount does not exist on the engine's host",
            code=ExitCode.ENVIRONMENT,
            where=where,
            why=said,
            hint="make the path, or correct it in the release or device manifest",
        )
    return StartFailed(
        f"the engine could not start the container {spec.name}",
        code=ExitCode.ENVIRONMENT,
        where=where,
        why=said,
        hint="compare the launch spec with what this host has (devices, runtime, image)",
    )


def not_removed(spec: ContainerSpec, error: Exception) -> RelforgeError:
    """The error for a container that may still be there."""
    return RelforgeError(
        f"the container {spec.name} could not be removed",
        code=ExitCode.ENVIRONMENT,
        why=str(error),
        hint=f"see whether the engine answers, then: docker rm -f {spec.name}",
    )
