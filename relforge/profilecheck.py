"""Which launch profiles of a device would work on this host: device files, mounts, runtimes."""

from __future__ import annotations

import shutil
from pathlib import Path

from relforge.devicequery import file_of, whom
from relforge.engine.cli import EngineFacts
from relforge.hostcheck import Finding
from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.facts import LaunchProfile

# What the engine itself needs for `--gpus`, whether or not a runtime is registered.
_GPUS_HOOK = "nvidia-container-runtime-hook"
_MOST_SHOWN = 2
_PLAIN_RUNTIMES = ("runc", "io.containerd.runc.v2", "crun")


def device_files(device: Device) -> Finding:
    """The device files of the launch profile ``raw``: those absent, or how many there are."""
    name = "device files"
    raw = _named(device, "raw")
    if raw is None or not raw.devices:
        return Finding(
            name=name,
            state="not-run",
            found="no source tells which device files there are",
            remedy=f"{whom(device)}; they belong into a launch profile `raw` of {file_of(device)}",
        )
    present = {file: _matching(file) for file in raw.devices}
    absent = [_first(file) for file, found in present.items() if not found]
    if absent:
        return Finding(
            name=name,
            state="missing",
            found=f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there",
            remedy="load the driver; in a container or virtual machine, pass the devices through",
        )
    counted = [
        f"{len(found)} of {file}" if "{index}" in file else file for file, found in present.items()
    ]
    return Finding(name=name, state="ok", found=", ".join(counted))


def toolkit(device: Device, facts: EngineFacts | None) -> Finding:
    """Whether the engine knows the vendor's container runtime; ``facts`` None: none answers."""
    name = "container toolkit"
    profile = _named(device, "toolkit")
    if profile is None:
        return Finding(
            name=name,
            state="not-run",
            found="the device has no launch profile with a toolkit that relforge drives",
            remedy=f"nothing to do; where the vendor has one ({whom(device)}), add a profile "
            f"`toolkit` to {file_of(device)}",
        )
    if facts is None:
        return Finding(
            name=name,
            state="not-run",
            found="the container engine does not answer",
            remedy="see the finding `engine`",
        )
    problem = _runtime_problem(profile, facts)
    if problem is None:
        return Finding(name=name, state="ok", found=_runtime_found(profile, facts))
    raw = _named(device, "raw")
    asked = device.host_prerequisites
    wanted = ", ".join(asked) if asked not in (UNKNOWN, ()) else "the vendor's container toolkit"
    return Finding(
        name=name,
        state="warning" if raw is not None else "missing",
        found=problem,
        remedy=f"install {wanted}, and in the engine's daemon.json "
        + ("make its runtime the default" if _by_environment(profile) else "register its runtime")
        + ("; or serve with `serve.profile: raw`" if raw is not None else ""),
    )


def least(device: Device, facts: EngineFacts | None, *, listed: bool) -> Finding:
    """The launch profile with the least privilege that would work here, and why not those before.

    As far as files and runtimes tell: no container is started. ``listed``: the device query saw a
    device, which counts where nobody told which files a device has.
    """
    name = "launch profile"
    if device.launch_profiles == UNKNOWN:
        return Finding(
            name=name,
            state="not-run",
            found="no source tells how a container gets the device",
            remedy=f"{whom(device)}; it belongs under launch_profiles of {file_of(device)}",
        )
    raw = _named(device, "raw")
    absent = [_first(file) for file in raw.devices if not _matching(file)] if raw else []
    if absent:
        # Whatever the profile, what it gives to a container has to be on the host.
        return Finding(
            name=name,
            state="missing",
            found=f"none would work here: {_few(absent)} not there",
            remedy="see the finding `device files`",
        )
    why_not: list[str] = []
    untold = False
    for profile in device.profiles:
        problems, told = _problems(profile, facts)
        told = told and (listed or raw is not None)
        if told and not problems and not why_not:
            return Finding(name=name, state="ok", found=f"{profile.name} would work here")
        if told and not problems:
            return Finding(
                name=name,
                state="warning",
                found=f"{profile.name} would work here, but not what needs less privilege: "
                + "; ".join(why_not),
                remedy=f"mend that, or set `serve.profile: {profile.name}` in the release",
            )
        untold = untold or not told
        why_not.append(f"{profile.name}: {_few(problems) if problems else 'cannot be told'}")
    return Finding(
        name=name,
        state="not-run" if untold else "missing",
        found=("" if untold else "none would work here: ") + "; ".join(why_not),
        remedy="see the findings `engine`, `device files` and `container toolkit`",
    )


def _problems(profile: LaunchProfile, facts: EngineFacts | None) -> tuple[list[str], bool]:
    """Why a profile would not work here, and whether that is all that there is to know."""
    sources = (mount.split(":")[0] for mount in profile.mounts)
    found = [f"{_first(file)} is not there" for file in profile.devices if not _matching(file)]
    found += [f"{path} is not there" for path in sources if not Path(path).exists()]
    if not (profile.runtime or profile.gpus or _by_environment(profile)):
        return found, True
    if facts is None:
        return found, False
    problem = _runtime_problem(profile, facts)
    return found + ([problem] if problem else []), True


def _few(texts: list[str]) -> str:
    more = len(texts) - _MOST_SHOWN
    return ", ".join(texts[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _by_environment(profile: LaunchProfile) -> bool:
    """Whether variables alone ask for the device, which only the default runtime could read."""
    return profile.name == "toolkit" and bool(profile.env) and not profile.devices


def _runtime_problem(profile: LaunchProfile, facts: EngineFacts) -> str | None:
    known = ", ".join(facts.runtimes) or "none"
    if profile.runtime is not None:
        if profile.runtime in facts.runtimes:
            return None
        return f"the engine has no runtime {profile.runtime}; it has {known}"
    if profile.gpus:
        if "nvidia" in facts.runtimes or shutil.which(_GPUS_HOOK):
            return None
        return f"the engine has no runtime nvidia, and {_GPUS_HOOK} is not on PATH; it has {known}"
    if _by_environment(profile) and facts.default_runtime in _PLAIN_RUNTIMES:
        names = ", ".join(profile.env)
        return (
            f"the engine's default runtime is {facts.default_runtime}, which does not read {names}"
        )
    return None


def _runtime_found(profile: LaunchProfile, facts: EngineFacts) -> str:
    if profile.runtime is not None or "nvidia" in facts.runtimes:
        return f"the engine has the runtime {profile.runtime or 'nvidia'}"
    if profile.gpus:
        return f"{_GPUS_HOOK} is on PATH"
    if _by_environment(profile):
        return f"the engine's default runtime is {facts.default_runtime}"
    return "the profile asks for no runtime"


def _matching(file: str) -> list[Path]:
    """The files of this host that a profile's entry names; ``{index}`` is any number."""
    path = Path(file.split(":")[0])
    if "{index}" not in path.name:
        return [path] if path.exists() else []
    before, after = path.name.split("{index}", 1)
    return [
        one
        for one in path.parent.glob(f"{before}*{after}")
        if one.name[len(before) : len(one.name) - len(after)].isdigit()
    ]


def _first(file: str) -> str:
    return file.replace("{index}", "0").split(":")[0]


def _named(device: Device, name: str) -> LaunchProfile | None:
    profiles = () if device.launch_profiles == UNKNOWN else device.profiles
    return next((profile for profile in profiles if profile.name == name), None)
