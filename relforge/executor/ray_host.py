"""What a worker host has, in Ray's terms; and what its own jobs know of it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_placement import (
    ALL_SLOTS,
    DISK,
    DOCKER,
    IDENTITIES,
    MANY_JOBS,
    SLOTS,
    jobs_resource,
    key_resource,
)
from relforge.frozen import Frozen
from relforge.manifest.common import PositiveInt
from relforge.manifest.device import Device
from relforge.manifest.facts import DeviceQuery
from relforge.manifest.project import Project
from relforge.manifest.site import Site

WORKER_VARIABLE = "RELFORGE_RAY_WORKER"
"""In the environment of a worker's Ray node, and so of its jobs: a ``WorkerPlace`` as JSON."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
_DEVICE_OPTION = re.compile(r"(?P<name>[^=]+)(=(?P<count>[1-9][0-9]*))?")


class Unfit(RelforgeError):
    """This host cannot do the job; another one may."""


class WorkerPlace(Frozen):
    """Where a worker's jobs find what is its own. No secret is in it: its site names the keys."""

    name: str
    home: Path
    site: Path | None
    code: Path
    """The folder of the relforge that it was started with: its jobs run that one and no other."""

    @classmethod
    def here(cls) -> WorkerPlace | None:
        """The place of the worker that this process is a part of; None: it is of none."""
        text = os.environ.get(WORKER_VARIABLE)
        return None if text is None else cls.model_validate_json(text)


class DeviceHere(Frozen):
    """A device of this host, and how many accelerators of it there are."""

    name: str
    count: PositiveInt
    accelerator: bool = True


def devices_named(options: Sequence[str], project: Project) -> tuple[DeviceHere, ...]:
    """The devices of ``--device NAME[=COUNT]``.

    The count that is left out is what the device's query program lists, else what the manifest
    says of a node. Raises RelforgeError: USAGE for an unknown device or a bad option, ENVIRONMENT
    when nothing tells the count.
    """
    found = []
    for option in options:
        match = _DEVICE_OPTION.fullmatch(option)
        if match is None:
            raise RelforgeError(
                f"--device {option} is not NAME or NAME=COUNT",
                code=ExitCode.USAGE,
                hint="for example: --device bi_V150=16",
            )
        device = project.device(match["name"])
        count = int(match["count"]) if match["count"] else _count(device)
        if count is None:
            raise RelforgeError(
                f"nothing tells how many {device.name} this host has",
                code=ExitCode.ENVIRONMENT,
                where=f"manifests/devices/{device.name}.yaml",
                why="its query program does not answer, and accelerators_per_node is not known",
                hint=f"say it: --device {device.name}=8",
            )
        found.append(_here(device, count))
    return tuple(found)


def _here(device: Device, count: int) -> DeviceHere:
    return DeviceHere(name=device.name, count=count, accelerator=device.accelerator)


def devices_found(project: Project) -> tuple[DeviceHere, ...]:
    """Without ``--device``: the processor of this architecture, and what query programs list."""
    found = []
    for device in project.devices.values():
        if not device.accelerator:
            count: int | None = 1 if device.architecture == _architecture() else None
        else:
            count = _counted(device)
        if count:
            found.append(_here(device, count))
    return tuple(found)


def host_resources(
    site: Site, home: Path, devices: Sequence[DeviceHere], *, engine: bool
) -> dict[str, float]:
    """What the host advertises beside processors and memory, which Ray counts itself."""
    resources: dict[str, float] = {SLOTS: ALL_SLOTS, f"arch_{_architecture()}": 1}
    resources[DISK] = shutil.disk_usage(home).free
    if engine:
        resources[DOCKER] = site.limits.engine
    for device in devices:
        resources[device.name] = device.count
        resources[jobs_resource(device.name)] = site.limits.devices.get(
            device.name, 1 if device.accelerator else MANY_JOBS
        )
    keys = own_keys(site)
    if keys:
        resources[IDENTITIES] = 1
        resources |= {key_resource(fingerprint): 1 for fingerprint in keys}
    return resources


def own_keys(site: Site) -> tuple[str, ...]:
    """Fingerprints of the keys that this host opens sealed patch sets with.

    Asks nobody: a key under a passphrase counts only where the site names the passphrase's file.
    """
    from relforge.patching.keys import given_passphrase, load_identities

    found: list[str] = []
    for path in site.identities:
        try:
            keys = load_identities([path], passphrase=given_passphrase(site.key_passphrase_file))
        except RelforgeError:
            continue  # it opens nothing; doctor says why
        found += [key.id.fingerprint for key in keys.keys]
    return tuple(dict.fromkeys(found))


def worker_environment(place: WorkerPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker's Ray node."""
    return {
        **environ,
        WORKER_VARIABLE: place.model_dump_json(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _count(device: Device) -> int | None:
    if not device.accelerator:
        return 1
    told = device.accelerators_per_node
    return _counted(device) or (told if isinstance(told, int) else None)


def _counted(device: Device) -> int | None:
    """Accelerators that the device's query program lists; None where it cannot say."""
    from relforge.devicequery import ask
    from relforge.manifest.common import UNKNOWN

    asked = device.device_query
    if not isinstance(asked, DeviceQuery) or asked.count == UNKNOWN:
        return None
    if shutil.which(asked.argv[0]) is None or (output := ask(device).output) is None:
        return None
    try:
        return len(re.findall(asked.count, output)) or None
    except re.error:
        return None
