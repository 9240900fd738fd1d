"""What of a host's files a node's container sees: weights, the device's, and the release's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from relforge.engine.container_spec import Mount
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.manifest.serve import LOCAL_MOUNTS, ServeMount


def weight_mounts(folder: Path, model_path: str, files: Iterable[str] | None) -> tuple[Mount, ...]:
    if files is None:
        return (Mount(host=folder, container=model_path),)
    return tuple(Mount(host=folder / f, container=f"{model_path}/{f}") for f in sorted(files))


def own_mounts(
    release: Release,
    host: HostNode,
    given: Mapping[str, Path],
    further: Iterable[ServeMount] = (),
) -> tuple[Mount, ...]:
    """The release's mounts and ``further`` ones, which its engine asks for."""
    found = []
    for mount in (*release.serve.mounts, *further):
        path = given.get(mount.name) or host.mounts.get(mount.name) or mount.host
        if path is None:
            raise refused(
                release,
                f"the mount {mount.name!r} at {mount.container} has no path on {host.name}",
                why="the release leaves it to the site",
                hint=f"give it with --mount {mount.name}=/PATH, or as mounts of the node in the "
                "nodes file",
            )
        found.append(Mount(host=Path(path), container=mount.container, read_only=mount.read_only))
    return tuple(found)


def known_mounts(release: Release, hosts: Iterable[HostNode], given: Mapping[str, Path]) -> None:
    known = [mount.name for mount in release.serve.mounts]
    if release.serve.paddlenlp is not None and release.serve.paddlenlp.local is not None:
        known += LOCAL_MOUNTS
    for name in (*given, *(name for host in hosts for name in host.mounts)):
        if name not in known:
            raise refused(
                release,
                f"{release.name} has no mount {name!r}",
                why=f"serve.mounts names {', '.join(known) or 'none'}",
                hint="correct the name in --mount or in the nodes file",
            )


def apart(release: Release, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    targets = [mount.container.rstrip("/") for mount in mounts]
    twice = dict.fromkeys(target for target in targets if targets.count(target) > 1)
    if twice:
        raise refused(
            release,
            f"two mounts at {', '.join(twice)}",
            why="weights, launch profile and serve.mounts are mounted side by side",
            hint="give one of them another path in the container",
        )
    return mounts


def device_mount(text: str, device: Device) -> Mount:
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


def refused(release: Release, what: str, *, hint: str, why: str | None = None) -> RelforgeError:
    return RelforgeError(
        what, code=ExitCode.USAGE, where=f"release {release.name}", why=why, hint=hint
    )
