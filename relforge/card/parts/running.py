"""The numbered steps: weights, image, sealed sources, start, request, stop."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.card.model import Code, Needs, Said, Step
from relforge.card.parts.afterwards import request_step, stop_step
from relforge.card.parts.launching import (
    IMAGE,
    WEIGHTS,
    folder_variable,
    launch,
    options_apart,
    other_profiles,
)
from relforge.card.parts.material import Material
from relforge.card.parts.obtaining import image_step, unpatch_step
from relforge.card.parts.variables import wrapped
from relforge.card.parts.weights import weights_step
from relforge.manifest.release import Release
from relforge.serving.commands import docker_argv
from relforge.serving.model import LaunchSpec, Node


def steps(material: Material) -> tuple[Step, ...]:
    """How to run it, from nothing to an answer."""
    return tuple(_steps(material))


def _steps(material: Material) -> Iterator[Step]:
    weights = weights_step(material.model, published=material.build is not None)
    if material.release.serve.nodes > 1:
        everywhere = Said(
            text="This step and the next are done on every node, in the terminals in which its "
            "servers are started."
        )
        weights = weights.model_copy(update={"words": (*weights.words, everywhere)})
    yield weights
    yield image_step(material)
    if material.sealed:
        yield unpatch_step(material)
    spec, variables = launch(material, profile=None)
    yield _start(material, spec, variables)
    yield request_step(material)
    yield stop_step(spec)


def _start(material: Material, spec: LaunchSpec, variables: dict[str, str]) -> Step:
    needs: tuple[Needs, ...] = ("hardware",) if material.device.accelerator else ()
    several = len(spec.nodes) > 1
    if several:
        needs = ("hardware",)
    codes: list[Code] = []
    if (settings := _settings(spec, variables)) is not None:
        codes.append(settings.model_copy(update={"needs": needs}))
    ready = f"http://127.0.0.1:{spec.health_port or material.release.serve.port}{spec.health_path}"
    for index, node in enumerate(spec.nodes):
        codes.append(
            Code(
                text=wrapped(docker_argv(node), variables),
                title=Said(text="On %(node)s:", values={"node": _place(spec, node)})
                if several
                else None,
                step="start",
                ready=ready if index == 0 else None,
                background=True,
                needs=needs,
            )
        )
    words = [
        Said(
            text="It is ready when `%(address)s` answers on the first node."
            if several
            else "It is ready when `%(address)s` answers.",
            values={"address": ready},
        ),
        *_folders(material.release),
    ]
    others: list[Code] = []
    after: list[Said] = []
    for name, other in other_profiles(material, spec):
        chosen, argv = docker_argv(spec.nodes[0]), docker_argv(other.nodes[0])
        if not several and not any("\n" in word for word in argv):
            others.append(
                Code(
                    text=wrapped(argv, variables),
                    title=Said(
                        text="Or, with the launch profile `%(profile)s`:", values={"profile": name}
                    ),
                    step="alternative",
                    background=True,
                    needs=needs,
                )
            )
            continue
        after.append(
            Said(
                text="With the launch profile `%(profile)s`, write %(new)s in place of %(old)s.",
                values={
                    "profile": name,
                    "new": options_apart(argv, chosen, variables),
                    "old": options_apart(chosen, argv, variables),
                },
            )
        )
    if any(p.privileged for p in material.device.profiles) and not spec.nodes[0].privileged:
        after.append(
            Said(
                text="The device has a launch profile with all privileges, too; it gives the "
                "container the whole host, and is not needed here."
            )
        )
    return Step(title="Start it", words=tuple(words), codes=(*codes, *others), after=tuple(after))


def _folders(release: Release) -> Iterator[Said]:
    """What belongs into the folders of the host that a reader has to name."""
    proxy = release.serve.proxy
    for mount in release.serve.mounts:
        if mount.host is not None:
            continue
        yield Said(
            text="`%(variable)s` is the folder of the host that its container has at `%(path)s`.",
            values={"variable": folder_variable(mount.name), "path": mount.container},
        )
        if mount.holds is not None:
            yield Said(text="It holds %(what)s.", values={"what": mount.holds})
        if proxy is not None and proxy.mount == mount.name:
            yield Said(
                text="The program in it comes from `%(source)s` (repository, path and commit).",
                values={"source": str(proxy.source)},
            )


def _place(spec: LaunchSpec, node: Node) -> str:
    name = node.host or spec.name_of(node)
    return f"`{name}`" + (f" ({node.role})" if node.role else "")


def _settings(spec: LaunchSpec, variables: dict[str, str]) -> Code | None:
    """What a reader fills in first; example values of the ranges that are kept for examples."""
    words = " ".join(word for node in spec.nodes for word in docker_argv(node))
    lines = []
    for stand_in, name in variables.items():
        if stand_in in (WEIGHTS, IMAGE) or stand_in not in words:
            continue
        if name.startswith("NODE"):
            lines.append(f"{name}=192.0.2.{10 + int(name.removeprefix('NODE'))}")
        elif name == "NIC":
            lines.append("NIC=eth0")
        elif name.startswith("NICS_"):
            lines.append(f"{name}=eth1,eth2,eth3,eth4")
        else:
            lines.append(f"{name}=$PWD/{stand_in.removeprefix('/stand-in.')}")
    if not lines:
        return None
    return Code(
        text="\n".join(lines),
        title=Said(
            text="First, on every node: addresses, network interfaces and folders of your hosts. "
            "These are examples:"
        ),
        step="settings",
    )
