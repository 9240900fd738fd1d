"""Devices: each accelerator product states its facts once, here and nowhere else."""

from __future__ import annotations

from typing import Literal

from relforge.frozen import Frozen
from relforge.manifest.common import (
    DebianPackage,
    DeviceName,
    Digest,
    EnvName,
    Line,
    Name,
    PositiveInt,
    RelativePath,
)


class Vendor(Frozen):
    """Who makes the device and whom to ask."""

    name: str
    contact: str | None = None
    public_key: str | None = None


class RegistryBase(Frozen):
    """A base image in a registry, by digest."""

    reference: str
    digest: Digest


class BootstrapBase(Frozen):
    """A base image made on this host from Debian packages, where no registry is reachable."""

    suite: Name
    variant: Literal["minbase", "buildd"] = "minbase"
    packages: tuple[DebianPackage, ...] = ()


class BaseImage(Frozen):
    """The base of the image: the registry's when it can be reached, else the bootstrapped one."""

    registry: RegistryBase | None = None
    bootstrap: BootstrapBase | None = None


class LaunchProfile(Frozen):
    """How a container gets the device; profiles stand in order of privilege, least first."""

    name: Literal["toolkit", "raw", "privileged"]
    devices: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    runtime: str | None = None
    privileged: bool = False
    env: dict[EnvName, Line] = {}


class DeviceQuery(Frozen):
    """The vendor's program that lists devices; ``None`` in the device means it has none."""

    argv: tuple[str, ...]


class Device(Frozen):
    """One accelerator product as a deployment target."""

    kind: Literal["device"]
    name: DeviceName
    title: Line
    aliases: tuple[str, ...] = ()
    vendor: Vendor
    architecture: Literal["amd64", "arm64", "riscv64"]
    accelerator: bool
    default_release: Name | None = None
    base: BaseImage
    template: RelativePath
    python: str
    apt_build: tuple[DebianPackage, ...] = ()
    apt_runtime: tuple[DebianPackage, ...] = ()
    flaggems_vendor: str | None = None
    device_query: DeviceQuery | None = None
    visible_devices_env: EnvName | None = None
    launch_profiles: tuple[LaunchProfile, ...]
    memory_bytes: PositiveInt | None = None
    host_prerequisites: tuple[str, ...] = ()
