"""The launch that a card shows: what differs from host to host is a variable in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from relforge.building.inputs import image_name
from relforge.card.parts.material import Material
from relforge.card.parts.variables import quoted
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.serving.commands import docker_argv
from relforge.serving.model import LaunchSpec
from relforge.serving.spec import launch_spec

WEIGHTS = "/stand-in.weights"
IMAGE = "stand-in.image"
_NIC = "stand-in-nic"
_OF_HOST = re.compile(r"\{(first_)?(address(es)?|interfaces?)[}.]")
_PURPOSE = re.compile(r"\{interfaces\.([a-z][a-z0-9_]*)\}")


def by_digest(reference: str, digest: str) -> str:
    """The reference with the digest, which from then on decides which image it is."""
    return f"{reference.partition('@')[0]}@{digest}"


def launch(material: Material, profile: str | None) -> tuple[LaunchSpec, dict[str, str]]:
    """The launch with a profile of the device, the release's own for None; and which stand-ins in
    it stand for which variables of a reader's shell."""
    release = material.release
    if profile is not None:
        serve = release.serve.model_copy(update={"profile": profile})
        release = release.model_copy(update={"serve": serve})
    variables = {WEIGHTS: "WEIGHTS", IMAGE: "IMAGE"}
    hosts: tuple[HostNode, ...] | None = None
    if release.serve.nodes > 1 or _names_a_host(release):
        purposes = {p for text in _environment(release) for p in _PURPOSE.findall(text)}
        hosts = tuple(
            HostNode(
                name=f"node{rank}",
                address=f"node{rank}.stand-in",
                interface=_NIC,
                interfaces={purpose: (f"nic-{purpose}"[:15],) for purpose in sorted(purposes)},
            )
            for rank in range(release.serve.nodes)
        )
        variables |= {f"node{rank}.stand-in": f"NODE{rank}" for rank in range(len(hosts))}
        variables[_NIC] = "NIC"
        variables |= {f"nic-{p}"[:15]: f"NICS_{p.upper()}" for p in sorted(purposes)}
    missing = [mount.name for mount in release.serve.mounts if mount.host is None]
    mounts = {name: Path(f"/stand-in.{name}") for name in missing}
    variables |= {f"/stand-in.{name}": folder_variable(name) for name in missing}
    spec = launch_spec(
        release,
        material.device,
        image=_reference(material),
        weights=Path(WEIGHTS),
        name=release.name,
        host_port=release.serve.port,
        hosts=hosts,
        mounts=mounts,
    )
    return spec, variables


def _environment(release: Release) -> Iterator[str]:
    yield from release.serve.env.values()
    for group in release.serve.groups:
        yield from group.env.values()


def _names_a_host(release: Release) -> bool:
    texts = (*_environment(release), *map(str, release.serve.args.values()))
    return any(_OF_HOST.search(text) for text in texts)


def folder_variable(name: str) -> str:
    """What a reader calls the folder of a mount that the site gives."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()) + "_FOLDER"


def _reference(material: Material) -> str:
    build, locked = material.build, material.locked_image
    if build is not None:
        digest = build.image_digest
        return f"{material.registry}@{digest}" if material.registry else build.image_name
    if material.release.build.image is None or locked is None:
        return image_name(material.release.name, material.lock_sha256)
    if locked.digest == UNRESOLVED:
        return IMAGE
    return by_digest(locked.reference, locked.digest)


def other_profiles(material: Material, spec: LaunchSpec) -> Iterator[tuple[str, LaunchSpec]]:
    """The launch with each other profile of the device that takes no privileges for it."""
    flagscale = material.release.serve.flagscale
    if flagscale is not None and flagscale.tree_config is not None:
        # How many accelerators it takes stands in the image alone, and these name each of them.
        return
    for profile in material.device.profiles:
        if not profile.privileged:
            other, _ = launch(material, profile.name)
            if docker_argv(other.nodes[0]) != docker_argv(spec.nodes[0]):
                yield profile.name, other


def options_apart(argv: tuple[str, ...], other: tuple[str, ...], variables: dict[str, str]) -> str:
    """The options of one command that another does not have, as code."""
    pairs = [pair for pair in pairwise(argv) if pair[0].startswith("--")]
    theirs = set(pairwise(other))
    words = [word for pair in pairs if pair not in theirs for word in pair]
    return f"`{' '.join(quoted(word, variables) for word in words)}`" if words else "nothing"
