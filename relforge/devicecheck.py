"""Looks at this host for one device: processor, C library, driver, devices, container runtime.

Like ``hostcheck``: a look costs at most seconds, changes nothing and never raises. One that cannot
be taken is ``not-run`` with the reason.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable

from relforge import devicequery, profilecheck
from relforge.devicequery import Need, file_of, older, whom
from relforge.engine.cli import EngineFacts, engine_facts
from relforge.engine.client import engine_host
from relforge.errors import RelforgeError
from relforge.hostcheck import Finding
from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.site import EngineSite

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}


def looks(device: Device, site: EngineSite, need: Need | None = None) -> list[Finding]:
    """Every look that the device's manifest gives reason for."""
    if not (host := engine_host(site)).startswith("unix:"):
        return [_elsewhere(device, host)]
    found = [architecture(device), glibc(device)]
    if not device.accelerator:
        return found
    facts = _facts(site)
    asked = devicequery.ask(device)
    query = devicequery.query(device, asked, need)
    return [
        *found,
        query,
        devicequery.driver(device, asked),
        profilecheck.device_files(device),
        profilecheck.toolkit(device, facts),
        profilecheck.least(device, facts, listed=query.state in ("ok", "warning")),
        *([] if device.host_prerequisites in (UNKNOWN, ()) else [prerequisites(device)]),
    ]


def architecture(device: Device) -> Finding:
    """Whether this host's processor runs the device's images."""
    here = _MACHINES.get(platform.machine(), platform.machine())
    if device.architecture == UNKNOWN:
        return Finding(
            name="architecture",
            state="not-run",
            found=f"this host is {here}; no source tells the device's",
            remedy=f"{whom(device)}; it belongs under architecture of {file_of(device)}",
        )
    if here != device.architecture:
        return Finding(
            name="architecture",
            state="missing",
            found=f"this host is {here}, images for {device.name} are {device.architecture}",
            remedy=f"work on a host with {device.architecture}",
        )
    return Finding(name="architecture", state="ok", found=here)


def glibc(device: Device) -> Finding:
    """The host's C library: programs and libraries of the driver are linked against it."""
    name, version = platform.libc_ver()
    with contextlib.suppress(ValueError, OSError):
        # What libc says of itself; libc_ver reads the interpreter, which may be an old build.
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    if name != "glibc":
        return Finding(
            name="glibc",
            state="not-run",
            found="this host has no GNU C library that tells its version",
            remedy="drivers of accelerators are made for hosts with one",
        )
    wanted = [
        found[1]
        for line in _lines(device.host_prerequisites)
        if (found := re.search(r"glibc\s*(?:>=)?\s*(\d+\.\d+)", line, re.IGNORECASE))
    ]
    if wanted and older(version, wanted[0]):
        return Finding(
            name="glibc",
            state="missing",
            found=f"glibc {version}, {wanted[0]} is needed",
            remedy="upgrade the host's distribution",
        )
    if wanted:
        return Finding(name="glibc", state="ok", found=f"{version}, {wanted[0]} is needed")
    if not device.accelerator:
        return Finding(
            name="glibc", state="ok", found=f"{version}; the image brings its own, and no driver"
        )
    return Finding(
        name="glibc",
        state="not-run",
        found=f"glibc {version}; no source tells which one the driver of {device.name} needs",
        remedy=f"{whom(device)}; `glibc >= X` belongs under host_prerequisites of "
        f"{file_of(device)}",
    )


def prerequisites(device: Device) -> Finding:
    """What the manifest says a host has to have, for a person to look at."""
    wanted = "; ".join(_lines(device.host_prerequisites))
    return Finding(
        name="prerequisites",
        state="not-run",
        found=f"the manifest asks for {wanted}; nothing here tells whether the host has it",
        remedy=f"look by hand; where to get it: {whom(device)}",
    )


def _elsewhere(device: Device, host: str) -> Finding:
    return Finding(
        name="device",
        state="not-run",
        found=f"the engine is at {host}: driver and devices of {device.name} are that host's",
        remedy=f"run it there: relforge doctor --device {device.name}",
    )


def _facts(site: EngineSite) -> EngineFacts | None:
    try:
        return engine_facts(site)
    except RelforgeError:
        return None  # the finding `engine` says why


def _lines(value: Iterable[str] | str) -> tuple[str, ...]:
    return () if isinstance(value, str) else tuple(value)
