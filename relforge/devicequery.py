"""What the vendor's query program and the kernel tell: devices, memory in use, the driver."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from relforge import proc
from relforge.errors import ExitCode, RelforgeError
from relforge.hostcheck import Finding, State
from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.facts import DeviceQuery
from relforge.ui.text import size

QUERY_TIMEOUT_S = 15.0
_MIB = 1 << 20
_BUSY_BYTES = 8 << 30
"""Idle devices hold up to some GB for themselves (an Ascend 910: 3.4)."""
_NUMBERS = r"\d+(?:\.\d+)*"
_VERSION = re.compile(rf"\d+\.{_NUMBERS}(?:\.?rc{_NUMBERS})?")
_VERSION_FILES = ("version", "version.info", "version.txt")


@dataclass(frozen=True)
class Asked:
    """The query program's answer; without one, the finding that says why."""

    output: str | None
    problem: Finding | None = None


@dataclass(frozen=True)
class Need:
    """Accelerators that a release's launch takes of one node."""

    release: str
    per_node: int


def ask(device: Device) -> Asked:
    """Runs the query program of the device's manifest."""
    asked = device.device_query
    if not isinstance(asked, DeviceQuery):
        return Asked(
            None,
            _finding(
                "not-run",
                "no source tells which program lists the devices",
                f"{whom(device)} for it; it belongs under device_query of {file_of(device)}",
            ),
        )
    shown = " ".join(asked.argv)
    program = shutil.which(asked.argv[0])
    if program is None:
        return Asked(
            None,
            _finding(
                "missing",
                f"{asked.argv[0]} is not on PATH",
                f"install the driver of {device.title} on this host, or put its programs on PATH "
                f"({whom(device)})",
            ),
        )
    try:
        done = proc.run(
            [program, *asked.argv[1:]],
            code=ExitCode.ENVIRONMENT,
            timeout_s=QUERY_TIMEOUT_S,
            check=False,
        )
    except (RelforgeError, OSError) as error:
        said = str(error).splitlines()[0]
        return Asked(None, _finding("missing", said, f"run it by hand: {shown}"))
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip() or done.text).splitlines()[-1:]
        said = f"{asked.argv[0]} ended with {done.returncode}: {' '.join(last) or 'no output'}"
        remedy = f"run it by hand ({shown}); load the driver, or see the kernel's log (dmesg)"
        return Asked(None, _finding("missing", said, remedy))
    return Asked(done.text)


def query(device: Device, asked: Asked, need: Need | None = None) -> Finding:
    """How many devices there are, of how many a release takes, and whether they are in use."""
    if asked.problem is not None:
        return asked.problem
    patterns = device.device_query
    assert isinstance(patterns, DeviceQuery)
    assert asked.output is not None
    program = patterns.argv[0]
    if patterns.count == UNKNOWN:
        return _finding(
            "not-run",
            f"{program} answers; nobody told how to read it",
            f"count the devices by eye: {' '.join(patterns.argv)}; then write the pattern of a "
            f"device's line under device_query.count of {file_of(device)}",
        )
    try:
        count = len(re.findall(patterns.count, asked.output))
        used = memory_used(patterns, asked.output)
    except (re.error, ValueError, IndexError) as error:
        return _finding(
            "not-run",
            f"the patterns of device_query cannot be used: {error}",
            f"correct them in {file_of(device)}; relforge check finds them",
        )
    if count == 0:
        return _finding(
            "missing",
            f"{program} lists no device",
            "see whether the kernel does: lspci, dmesg; in a container or virtual machine, pass "
            "the devices through",
        )
    said = f"{program} lists {count}" + (f", in use: {_shown(used)}" if used else "")
    if need is not None and count < need.per_node:
        return _finding(
            "missing",
            f"{said}; {need.release} takes {need.per_node} of a node",
            "serve it on a host with more, or name more nodes in the release",
        )
    if any(one > _BUSY_BYTES for one in used):
        return _finding("warning", said, f"end what uses them, or choose others: {program}")
    return _finding("ok", said)


def driver(device: Device, asked: Asked) -> Finding:
    """The loaded driver's version against the one that the device's stack wants."""
    wanted = device.stack.driver
    name = "driver"
    if wanted == "none":
        return Finding(name=name, state="ok", found="the stack needs none")
    files = driver_files(device)
    told = (_version_in(Path(file)) for file in files)
    version = _told_by_query(device, asked) or next((one for one in told if one), None)
    needed = None if wanted == UNKNOWN else wanted
    if version is None:
        return Finding(
            name=name,
            state="not-run",
            found=f"no version of a loaded driver is found: looked at {', '.join(files)}",
            remedy="load the driver (see `device query`), or compare by hand: "
            + (f"{needed} is needed" if needed else f"{whom(device)} for what is needed"),
        )
    number = _VERSION.search(wanted)
    if number is None:
        return Finding(
            name=name,
            state="not-run",
            found=f"{version} is loaded; the stack's is {wanted}",
            remedy=f"{whom(device)} which driver {device.default_stack} needs, and write it under "
            f"stacks.{device.default_stack}.driver of {file_of(device)}",
        )
    if not older(version, number.group()):
        return Finding(name=name, state="ok", found=f"{version}, {wanted} is needed")
    fitting = [
        stack
        for stack, other in device.stacks.items()
        if (found := _VERSION.search(other.driver)) and not older(version, found.group())
    ]
    return Finding(
        name=name,
        state="missing",
        found=f"{version} is loaded, stack {device.default_stack} needs {wanted}",
        remedy=f"upgrade the driver ({whom(device)})"
        + (f", or name a stack in the release that fits: {', '.join(fitting)}" if fitting else ""),
    )


def driver_files(device: Device) -> tuple[str, ...]:
    """Where the kernel leaves a module's version, and version files that launch profiles mount."""
    module = device.vendor.name
    profiles = () if device.launch_profiles == UNKNOWN else device.profiles
    mounted = dict.fromkeys(mount.split(":")[0] for one in profiles for mount in one.mounts)
    return (
        f"/sys/module/{module}/version",
        f"/proc/driver/{module}/version",
        *(path for path in mounted if "version" in Path(path).name),
        # A mounted folder of the driver, such as Ascend's, has its version beside the rest.
        *(
            f"{path}/{name}"
            for path in mounted
            if Path(path).name == "driver"
            for name in _VERSION_FILES
        ),
    )


def older(version: str, wanted: str) -> bool:
    """Whether a version comes before another; one with ``rc`` comes before the one without."""

    def order(text: str) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
        release, _, candidate = text.partition("rc")
        return _numbers(release), not candidate, _numbers(candidate)

    return order(version) < order(wanted)


def _numbers(text: str) -> tuple[int, ...]:
    found = [int(part) for part in re.findall(r"\d+", text)]
    while found and not found[-1]:
        found.pop()  # 26.0 is 26.0.0
    return tuple(found)


def whom(device: Device) -> str:
    """Whom to ask about a device."""
    contact = device.vendor.contact
    return f"ask {contact}" if contact else f"ask its vendor, {device.vendor.name}"


def file_of(device: Device) -> str:
    """The manifest where a device's facts stand."""
    return f"manifests/devices/{device.name}.yaml"


def _finding(state: State, found: str, remedy: str = "") -> Finding:
    return Finding(name="device query", state=state, found=found, remedy=remedy)


def memory_used(patterns: DeviceQuery, output: str) -> list[int]:
    """In bytes, of each device."""
    if patterns.memory_used == UNKNOWN:
        return []
    return [int(found[1]) * _MIB for found in re.finditer(patterns.memory_used, output)]


def _shown(used: list[int]) -> str:
    if len(set(used)) == 1:
        return f"{size(used[0])} of each"
    return ", ".join(map(size, used))


def _told_by_query(device: Device, asked: Asked) -> str | None:
    patterns = device.device_query
    if asked.output is None or not isinstance(patterns, DeviceQuery) or patterns.driver is None:
        return None
    try:
        found = re.search(patterns.driver, asked.output)
    except re.error:
        return None
    number = _VERSION.search(found[1]) if found and found.re.groups else None
    return number.group() if number else None


def _version_in(file: Path) -> str | None:
    try:
        found = _VERSION.search(file.read_text(errors="replace"))
    except OSError:
        return None
    return found.group() if found else None
