"""Devices: each accelerator product states its facts once, here and nowhere else."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import model_validator

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.common import (
    UNKNOWN,
    Architecture,
    DebianPackage,
    DeviceName,
    Line,
    Name,
    PositiveInt,
    RelativePath,
)
from relforge.manifest.facts import (
    BaseImage,
    Communication,
    DeviceQuery,
    Disagreement,
    FlagGems,
    LaunchProfile,
    Source,
    Stack,
    Unknown,
    UsedImage,
    VisibleDevices,
    VllmWay,
    fact_at,
    unknown_facts,
)

T = TypeVar("T")


class Vendor(Frozen):
    """Who makes the device and whom to ask."""

    name: Line
    """As it is written in tags and names of repositories."""
    title: Line | None = None
    """As people write it, where that differs."""
    contact: Line | None = None
    """Whom to ask for keys, images and facts."""
    public_key: str | None = None
    """The key itself, in PEM: its signatures on sealed patch sets count."""


class Device(Frozen):
    """One accelerator product as a deployment target.

    Of ``stacks`` a release names one, or takes ``default_stack``. ``accelerator: false`` is a
    processor: it has no query, no variables and no collective library of its own.
    """

    kind: Literal["device"]
    name: DeviceName
    """Letters, digits and single underscores, as people write it: ``bi_V150``."""
    title: Line
    """What cards call it."""
    aliases: tuple[str, ...] = ()
    """Other ways to write its name; case, hyphens and underscores make no difference."""
    vendor: Vendor
    """Who makes it and whom to ask."""
    architecture: Architecture | Unknown
    """Of the host's processor."""
    accelerator: bool
    """False for a processor."""
    sources: tuple[Source, ...] = ()
    """Where name, vendor and architecture stand."""
    default_release: Name | None = None
    """The release that ``--device`` alone means."""
    default_stack: Name
    """The stack of releases that name none."""
    stacks: dict[Name, Stack]
    """Sets of software that belong together, by name."""
    template: RelativePath = "dockerfiles/base.j2"
    """The Dockerfile template of its releases."""
    vllm: tuple[VllmWay, ...] = ()
    """The ways in which vLLM is had for it."""
    other_images: tuple[UsedImage, ...] = ()
    """Images that others build on for it, beside the stacks' bases."""
    flaggems: FlagGems | Unknown | None = None
    """What FlagGems calls it; an accelerator says it, or ``unknown``."""
    device_query: DeviceQuery | Unknown | None = None
    """The program that lists devices; an accelerator says it, or ``unknown``."""
    visible_devices: VisibleDevices | Unknown | None = None
    """The variables that choose devices; an accelerator says them, or ``unknown``."""
    communication: Communication | Unknown | None = None
    """The library for collective operations; an accelerator says it, or ``unknown``."""
    launch_profiles: tuple[LaunchProfile, ...] | Unknown
    """How a container gets the device, least privilege first."""
    memory_bytes: PositiveInt | Unknown | None = None
    """Of one device; None for a processor, which has the host's."""
    accelerators_per_node: PositiveInt | Unknown | None = None
    """In the machine that it is sold or published in; None where nobody says how many."""
    host_prerequisites: tuple[Line, ...] | Unknown = ()
    """What a host has to have, in words that cards repeat."""
    disagreements: tuple[Disagreement, ...] = ()
    """Facts of which two sources say different things."""

    @model_validator(mode="after")
    def _consistent(self) -> Device:
        if self.default_stack not in self.stacks:
            raise ValueError(f"default_stack names no stack; there are {', '.join(self.stacks)}")
        if self.accelerator:
            facts = ("flaggems", "device_query", "visible_devices", "communication", "memory_bytes")
            missing = [name for name in facts if getattr(self, name) is None]
            if missing:
                raise ValueError(
                    f"an accelerator says {', '.join(missing)}, or `unknown` where nobody does"
                )
            if not self.sources:
                raise ValueError("an accelerator names `sources` for its name and architecture")
            for profile in self.launch_profiles:
                if isinstance(profile, LaunchProfile) and profile.source is None:
                    raise ValueError(f"launch profile {profile.name!r} names no source")
        if self.disagreements:
            content = self.model_dump(mode="json", exclude={"disagreements"})
            for disagreement in self.disagreements:
                try:
                    fact_at(content, disagreement.fact)
                except KeyError:
                    raise ValueError(f"disagreements name no fact {disagreement.fact!r}") from None
        return self

    @property
    def stack(self) -> Stack:
        """The software that counts."""
        return self.stacks[self.default_stack]

    def on(self, stack: str | None) -> Device:
        """The device with another of its stacks. Raises RelforgeError (USAGE)."""
        if stack is None or stack == self.default_stack:
            return self
        if stack not in self.stacks:
            raise RelforgeError(
                f"device {self.name} has no stack {stack!r}",
                code=ExitCode.USAGE,
                why=f"it has {', '.join(self.stacks)}",
                hint="correct stack in the release manifest, or leave it out for the default one",
            )
        return self.model_copy(update={"default_stack": stack})

    @property
    def unknown(self) -> tuple[str, ...]:
        """The paths of all facts that nobody is known to tell."""
        return unknown_facts(self.model_dump(mode="json"))

    @property
    def python(self) -> str:
        """Of the stack, as ``3.11``. Raises RelforgeError (USAGE) when it is unknown."""
        return self._known(self.stack.python, "python")

    @property
    def base(self) -> BaseImage:
        """Of the stack. Raises RelforgeError (USAGE) when it is unknown."""
        return self._known(self.stack.base, "base")

    @property
    def apt_build(self) -> tuple[DebianPackage, ...]:
        """The stack's Debian packages for compiling."""
        return self.stack.apt_build

    @property
    def apt_runtime(self) -> tuple[DebianPackage, ...]:
        """The stack's Debian packages in the image."""
        return self.stack.apt_runtime

    @property
    def profiles(self) -> tuple[LaunchProfile, ...]:
        """How it is launched. Raises RelforgeError (USAGE) when that is unknown."""
        if self.launch_profiles == UNKNOWN:
            raise self._missing("launch_profiles")
        return tuple(p for p in self.launch_profiles if isinstance(p, LaunchProfile))

    def for_release(self, stack: str | None, *, builds: bool = True) -> Device:
        """The device on a release's stack, with all that serving it needs to know, and building it
        where ``builds``.

        Raises RelforgeError (USAGE) for the first of these facts that is unknown.
        """
        device = self.on(stack)
        if device.architecture == UNKNOWN:
            raise device._missing("architecture")
        if builds:
            _ = device.python, device.base
        _ = device.profiles
        return device

    def _known(self, value: T | Unknown, name: str) -> T:
        if value == UNKNOWN:
            raise self._missing(f"stacks/{self.default_stack}/{name}")
        return value

    def _missing(self, path: str) -> RelforgeError:
        return RelforgeError(
            f"device {self.name}: {path} is unknown",
            code=ExitCode.USAGE,
            where=f"manifests/devices/{self.name}.yaml: {path}",
            why="no source is known that tells it, and the release needs it",
            hint=f"ask {self.vendor.contact or self.vendor.name}; write it there with its source",
        )
