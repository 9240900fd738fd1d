"""The numbered steps: weights, image, sealed sources, start, request, stop."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from relforge.card.model import Code, Needs, Said, Step
from relforge.card.parts.addresses import mail
from relforge.card.parts.afterwards import request_step, stop_step
from relforge.card.parts.material import Material
from relforge.card.parts.variables import quoted, wrapped
from relforge.card.parts.weights import weights_step
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.serving.commands import docker_argv
from relforge.serving.model import LaunchSpec, Node
from relforge.serving.spec import launch_spec
from relforge.stages.build import image_name

_WEIGHTS = "/stand-in.weights"
_IMAGE = "stand-in.image"
_NIC = "stand-in-nic"
_OF_HOST = re.compile(r"\{(first_)?(address(es)?|interfaces?)[}.]")
_KEYS = Said(text="`KEYS` is the file of your key, or the folder that it lies in.")
_PURPOSE = re.compile(r"\{interfaces\.([a-z][a-z0-9_]*)\}")


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
    yield _image(material)
    if material.sealed:
        yield _unpatch(material)
    spec, variables = _launch(material, profile=None)
    yield _start(material, spec, variables)
    yield request_step(material)
    yield stop_step(spec)


def _image(material: Material) -> Step:
    title = "The image"
    build, given = material.build, material.release.build.image
    if build is not None:
        # The image of the folder has no name in the registry: what is loaded is not what a command
        # with the registry's name runs. So there is one way, and it is that of the start command.
        if material.registry is not None:
            pull = f"docker pull {material.registry}@{build.image_digest}"
            return Step(
                title=title,
                words=(),
                codes=(Code(text=pull, step="pull", needs=("network",)),),
            )
        load = Code(
            text="tar -C image -c . | docker load",
            step="load",
            title=Said(text="From the folder that this card lies in:"),
        )
        return Step(title=title, words=(), codes=(load,))
    if given is None:
        keys = " --key-path KEYS" if material.sealed else ""
        return Step(
            title=title,
            words=(
                Said(text="It was not built here, so there is none to load or to pull."),
                *((_KEYS,) if material.sealed else ()),
                Said(text="Where its sources can be reached, this builds it:"),
            ),
            codes=(
                Code(
                    text=f"relforge build --release {material.release.name}{keys}",
                    step="build",
                    needs=("network", "secret") if material.sealed else ("network",),
                ),
            ),
        )
    locked = material.locked_image
    assert locked is not None
    if given.on_request is not None:
        return Step(
            title=title,
            words=(
                Said(
                    text="It is handed out on request: write to %(contact)s and ask for %(what)s. "
                    "Its archive is loaded so:",
                    values={
                        "contact": mail(given.on_request.contact),
                        "what": given.on_request.ask_for,
                    },
                ),
            ),
            codes=(
                Code(
                    # Its name is its owner's, whose registry a reader may not reach.
                    text="IMAGE=$(docker load --quiet --input image.tar | "
                    "sed 's/^Loaded image[^:]*: //')",
                    step="load",
                    needs=("secret",),
                ),
            ),
        )
    if locked.digest == UNRESOLVED:
        name = locked.reference.rpartition(":")[0]
        template = "{{.Manifest.Digest}}"
        return Step(
            title=title,
            words=(
                Said(
                    text="Nobody looked up yet which digest %(reference)s stands for, and a tag "
                    "can move. Look it up, note it, and use the digest from then on:",
                    values={"reference": f"`{locked.reference}`"},
                ),
            ),
            codes=(
                Code(
                    text="DIGEST=$(docker buildx imagetools inspect --format "
                    f"{shlex.quote(template)} \\\n  {shlex.quote(locked.reference)})\n"
                    f'IMAGE={shlex.quote(name)}@$DIGEST\ndocker pull "$IMAGE"',
                    step="pull",
                    needs=("network",),
                ),
            ),
        )
    return Step(
        title=title,
        words=(),
        codes=(
            Code(
                text=f"docker pull {_named(locked.reference, locked.digest)}",
                step="pull",
                needs=("network",),
            ),
        ),
    )


def _named(reference: str, digest: str) -> str:
    return f"{reference.partition('@')[0]}@{digest}"


def _unpatch(material: Material) -> Step:
    contact = material.device.vendor.contact
    words = [
        Said(
            text="Serving does not need this step. The patches of this release are sealed; whoever "
            "has their key can read what the image was built from."
        )
    ]
    if material.build is not None:
        words.append(_KEYS)
    if contact is not None:
        words.append(
            Said(text="The key is handed out by %(contact)s.", values={"contact": mail(contact)})
        )
    return Step(
        title="The patched sources",
        words=tuple(words),
        codes=(
            Code(
                text=f"relforge unpatch --release {material.release.name} --key-path KEYS "
                "--dir sources",
                step="unpatch",
                needs=("secret",),
            ),
        ),
    )


def _launch(material: Material, profile: str | None) -> tuple[LaunchSpec, dict[str, str]]:
    """The launch, and what stands in it for which variable."""
    release = material.release
    if profile is not None:
        serve = release.serve.model_copy(update={"profile": profile})
        release = release.model_copy(update={"serve": serve})
    variables = {_WEIGHTS: "WEIGHTS", _IMAGE: "IMAGE"}
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
    variables |= {f"/stand-in.{name}": _variable(name) for name in missing}
    spec = launch_spec(
        release,
        material.device,
        image=_reference(material),
        weights=Path(_WEIGHTS),
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


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()) + "_FOLDER"


def _reference(material: Material) -> str:
    build, locked = material.build, material.locked_image
    if build is not None:
        digest = build.image_digest
        return f"{material.registry}@{digest}" if material.registry else build.image_name
    if material.release.build.image is None or locked is None:
        return image_name(material.release.name, material.lock_sha256)
    if locked.digest == UNRESOLVED:
        return _IMAGE
    return _named(locked.reference, locked.digest)


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
    for name, other in _other_profiles(material, spec):
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
                    "new": _options_apart(argv, chosen, variables),
                    "old": _options_apart(chosen, argv, variables),
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
            values={"variable": _variable(mount.name), "path": mount.container},
        )
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
        if stand_in in (_WEIGHTS, _IMAGE) or stand_in not in words:
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


def _other_profiles(material: Material, spec: LaunchSpec) -> Iterator[tuple[str, LaunchSpec]]:
    """The launch with each other profile of the device that takes no privileges for it."""
    flagscale = material.release.serve.flagscale
    if flagscale is not None and flagscale.tree_config is not None:
        # How many accelerators it takes stands in the image alone, and these name each of them.
        return
    for profile in material.device.profiles:
        if not profile.privileged:
            other, _ = _launch(material, profile.name)
            if docker_argv(other.nodes[0]) != docker_argv(spec.nodes[0]):
                yield profile.name, other


def _options_apart(argv: tuple[str, ...], other: tuple[str, ...], variables: dict[str, str]) -> str:
    """The options of one command that another does not have, as code."""
    pairs = [pair for pair in pairwise(argv) if pair[0].startswith("--")]
    theirs = set(pairwise(other))
    words = [word for pair in pairs if pair not in theirs for word in pair]
    return f"`{' '.join(quoted(word, variables) for word in words)}`" if words else "nothing"
