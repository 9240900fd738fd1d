"""Looks at this host for one device: driver, device query, device files, container toolkit, glibc.

Like ``hostcheck``: a look costs at most seconds, changes nothing and never raises. One that cannot
be taken is ``not-run`` with the reason.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from relforge import proc
from relforge.errors import ExitCode, RelforgeError
from relforge.hostcheck import Finding
from relforge.manifest.device import Device
from relforge.manifest.facts import UNKNOWN, DeviceQuery, LaunchProfile
from relforge.manifest.site import EngineSite

_QUERY_TIMEOUT_S = 15.0
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def looks(device: Device, engine: EngineSite) -> list[Finding]:
    """Every look that the device's manifest gives reason for."""
    found = [architecture(device), glibc(device)]
    if not device.accelerator:
        return found
    return [
        *found,
        query(device),
        driver(device),
        device_files(device),
        toolkit(device, engine),
        *([] if device.host_prerequisites in (UNKNOWN, ()) else [prerequisites(device)]),
    ]


def architecture(device: Device) -> Finding:
    """Whether this host's processor runs the device's images."""
    here = _MACHINES.get(platform.machine(), platform.machine())
    if device.architecture == UNKNOWN:
        return _not_run("architecture", f"this host is {here}; the device's is unknown", device)
    if here != device.architecture:
        return Finding(
            name="architecture",
            state="missing",
            found=f"this host is {here}, images for {device.name} are {device.architecture}",
            remedy=f"work on a host with {device.architecture}",
        )
    return Finding(name="architecture", state="ok", found=here)


def glibc(device: Device) -> Finding:
    """The host's C library, which mounted driver libraries and tools are linked against."""
    name, version = platform.libc_ver()
    with contextlib.suppress(ValueError, OSError):
        # What libc says of itself; libc_ver reads the interpreter, which may be an old build.
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    if name != "glibc":
        return _not_run("glibc", "this host has no GNU C library that tells its version", device)
    wanted = [
        found[1]
        for line in _lines(device.host_prerequisites)
        if (found := re.search(r"glibc\s*(?:>=)?\s*(\d+\.\d+)", line, re.IGNORECASE))
    ]
    if not wanted:
        return Finding(
            name="glibc",
            state="not-run",
            found=f"glibc {version}; no source tells which one {device.name} needs on the host",
        )
    if _older(version, wanted[0]):
        return Finding(
            name="glibc",
            state="missing",
            found=f"glibc {version}, {wanted[0]} is needed",
            remedy="upgrade the host's distribution",
        )
    return Finding(name="glibc", state="ok", found=f"{version}, {wanted[0]} is needed")


def query(device: Device) -> Finding:
    """What the vendor's program says: how many devices there are."""
    asked = device.device_query
    name = "device query"
    if not isinstance(asked, DeviceQuery):
        return _not_run(name, "no source tells which program lists the devices", device)
    program = shutil.which(asked.argv[0])
    if program is None:
        return Finding(
            name=name,
            state="missing",
            found=f"{asked.argv[0]} is not on PATH",
            remedy=f"install the driver of {device.title} on this host ({_whom(device)})",
        )
    try:
        done = proc.run(
            [program, *asked.argv[1:]],
            code=ExitCode.ENVIRONMENT,
            timeout_s=_QUERY_TIMEOUT_S,
            check=False,
        )
    except RelforgeError as error:
        return Finding(
            name=name,
            state="missing",
            found=": ".join(part for part in (error.what, error.why) if part),
            remedy=f"run it by hand: {' '.join(asked.argv)}",
        )
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip() or done.text).splitlines()[-1:]
        return Finding(
            name=name,
            state="missing",
            found=f"{asked.argv[0]} ended with {done.returncode}: {' '.join(last) or 'no output'}",
            remedy="load the driver, or see its own log (dmesg)",
        )
    if asked.count == UNKNOWN:
        return _not_run(name, f"{asked.argv[0]} answers; nobody told how to read it", device)
    try:
        count = len(re.findall(asked.count, done.text))
    except re.error as error:
        return _not_run(name, f"device_query.count is no pattern: {error}", device)
    if count == 0:
        return Finding(
            name=name,
            state="missing",
            found=f"{asked.argv[0]} lists no device",
            remedy="see whether the kernel does: lspci, dmesg",
        )
    return Finding(name=name, state="ok", found=f"{asked.argv[0]} lists {count}")


def driver(device: Device) -> Finding:
    """The loaded driver's version against the one that the device's software wants."""
    wanted = device.stack.driver
    name = "driver"
    if wanted == "none":
        return Finding(name=name, state="ok", found="the stack needs none")
    files = _driver_files(device)
    version = next((found for file in files if (found := _version_in(Path(file)))), None)
    if version is None:
        return _not_run(
            name, f"no version of a loaded driver is found: looked at {', '.join(files)}", device
        )
    needed = _VERSION.search(wanted)
    if needed is None:
        return _not_run(name, f"{version} is loaded; the stack's is {wanted}", device)
    if _older(version, needed.group()):
        return Finding(
            name=name,
            state="missing",
            found=f"{version} is loaded, stack {device.default_stack} needs {needed.group()}",
            remedy="upgrade the driver, or choose a stack that fits it (stack in the release)",
        )
    return Finding(name=name, state="ok", found=f"{version}, {needed.group()} is needed")


def device_files(device: Device) -> Finding:
    """The device files of the launch profile ``raw``."""
    name = "device files"
    profile = _profile(device, "raw")
    if profile is None or not profile.devices:
        return _not_run(name, "no source tells which device files there are", device)
    absent = [
        file
        for file in profile.devices
        if not Path(file.replace("{index}", "0").split(":")[0]).exists()
    ]
    if absent:
        return Finding(
            name=name,
            state="missing",
            found=f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there",
            remedy="load the driver; in a container or virtual machine, pass the devices through",
        )
    return Finding(name=name, state="ok", found=f"{len(profile.devices)} of profile raw are there")


def toolkit(device: Device, site: EngineSite) -> Finding:
    """Whether the engine knows the vendor's container runtime."""
    name = "container toolkit"
    profile = _profile(device, "toolkit")
    if profile is None:
        return _not_run(name, "the device has no launch profile with a toolkit", device)
    try:
        known = _runtimes(site)
    except RelforgeError as error:
        return Finding(
            name=name, state="not-run", found=error.what, remedy="see the finding `engine`"
        )
    wanted = profile.runtime or ("nvidia" if profile.gpus else None)
    if wanted is None:
        return _not_run(name, "the launch profile names no runtime to look for", device)
    if wanted in known:
        return Finding(name=name, state="ok", found=f"the engine has the runtime {wanted}")
    raw = _profile(device, "raw")
    return Finding(
        name=name,
        state="warning" if raw is not None else "missing",
        found=f"the engine has no runtime {wanted}; it has {', '.join(sorted(known)) or 'none'}",
        remedy="install the vendor's container toolkit and restart the engine"
        + (", or serve with `serve.profile: raw`" if raw is not None else ""),
    )


def prerequisites(device: Device) -> Finding:
    """What the manifest says a host has to have, for a person to look at."""
    wanted = "; ".join(_lines(device.host_prerequisites))
    return Finding(
        name="prerequisites",
        state="not-run",
        found=f"the manifest asks for {wanted}; nothing here tells whether the host has it",
    )


def _runtimes(site: EngineSite) -> frozenset[str]:
    """Names of the runtimes that the engine has. Raises RelforgeError (ENVIRONMENT)."""
    from docker.errors import DockerException
    from requests import RequestException

    from relforge.engine.client import connect

    client = connect(site)
    try:
        return frozenset(client.info().get("Runtimes") or {})
    except (DockerException, RequestException, OSError) as error:
        raise RelforgeError(str(error), code=ExitCode.ENVIRONMENT) from error
    finally:
        client.close()


def _driver_files(device: Device) -> tuple[str, ...]:
    """Where the kernel leaves a module's version, and version files that launch profiles mount."""
    module = device.vendor.name
    profiles = () if device.launch_profiles == UNKNOWN else device.profiles
    mounted = (mount.split(":")[0] for profile in profiles for mount in profile.mounts)
    return (
        f"/sys/module/{module}/version",
        f"/proc/driver/{module}/version",
        *dict.fromkeys(path for path in mounted if "version" in Path(path).name),
    )


def _profile(device: Device, name: str) -> LaunchProfile | None:
    profiles = () if device.launch_profiles == UNKNOWN else device.profiles
    return next((profile for profile in profiles if profile.name == name), None)


def _lines(value: Iterable[str] | str) -> tuple[str, ...]:
    return () if isinstance(value, str) else tuple(value)


def _version_in(file: Path) -> str | None:
    try:
        found = _VERSION.search(file.read_text(errors="replace"))
    except OSError:
        return None
    return found.group() if found else None


def _older(version: str, wanted: str) -> bool:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text))

    return numbers(version) < numbers(wanted)


def _whom(device: Device) -> str:
    return f"ask {device.vendor.contact or device.vendor.title or device.vendor.name}"


def _not_run(name: str, why: str, device: Device) -> Finding:
    return Finding(name=name, state="not-run", found=why, remedy=_whom(device))
