"""What device manifests say of hardware and its software, each fact with the place that says it.

``unknown`` stands where nobody is known to say it: a release that needs the fact is refused, and
nothing is guessed. A source is ``owner/repository:path@commit``, an address, or a document's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from relforge.addresses import index_address, page_address
from relforge.frozen import Frozen
from relforge.manifest.common import (
    UNKNOWN,
    DebianPackage,
    Digest,
    EnvName,
    ImageReference,
    Line,
    Name,
    Reason,
)

Unknown = Literal["unknown"]
UNRESOLVED: Final = "unresolved"
Source = Annotated[
    Line,
    StringConstraints(min_length=3),
    AfterValidator(page_address("name a place that everybody may read")),
]
"""Where something is written: ``owner/repository:path@commit``, an address, or a document's
name."""
PythonVersion = Annotated[str, StringConstraints(pattern=r"^3\.[0-9]+$")]
"""Without its patch level."""
IndexAddress = Annotated[
    str, StringConstraints(pattern=r"^https?://\S+$"), AfterValidator(index_address)
]
"""A package index, without login and token."""


class RegistryBase(Frozen):
    """A base image in a registry, by digest; ``unresolved`` where nobody looked it up yet."""

    reference: ImageReference
    """Registry, name and tag."""
    digest: Digest | Literal["unresolved"]
    """While it is ``unresolved``, the lock of a release holds it."""


class BootstrapBase(Frozen):
    """A base image made on this host from Debian packages, where no registry is reachable."""

    suite: Name
    """Debian's release: ``bookworm``."""
    variant: Literal["minbase", "buildd"] = "minbase"
    """What debootstrap installs."""
    packages: tuple[DebianPackage, ...] = ()
    """Installed besides."""


class RequestedImage(Frozen):
    """An image that its owner hands out on request.

    Whoever has it names its archive (of ``docker save``) under ``images`` in the site
    configuration, by ``reference``.
    """

    reference: ImageReference
    """What its archive calls it."""
    contact: Reason
    """Whom to ask."""
    ask_for: Reason
    """For what, in words that the error repeats."""
    digest: Digest | Literal["unresolved"] = UNRESOLVED
    """Of the image as its owner has it, where that is told."""


class BaseImage(Frozen):
    """The base of the image: the registry's when it can be reached, else the bootstrapped one, or
    one that is handed out on request."""

    registry: RegistryBase | None = None
    """Pulled by digest."""
    bootstrap: BootstrapBase | None = None
    """Made here, where no registry is reachable."""
    on_request: RequestedImage | None = None
    """Handed out by its owner."""


class PythonEnvironment(Frozen):
    """The Python environment that a base image brings, with the vendor's own builds in it.

    ``prefix`` is its folder, the one that has ``bin/python``.
    """

    prefix: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]+$")]
    """Its folder in the image."""
    source: Source
    """Where it is described."""


class Stack(Frozen):
    """Software that belongs together, from the host's driver up to Triton.

    ``driver`` is the version that the host has to have, ``none`` where there is none. ``torch``,
    ``triton``, ``flagtree`` and ``numpy`` are requirements; ``none`` where the stack has none of
    its own and the release chooses.
    """

    source: Source
    """Where all of this stands."""
    hardware: tuple[Line, ...] = ()
    """The products it was seen on."""
    driver: Line
    """The version that the host has to have; ``none`` where there is no driver."""
    sdk: tuple[Line, ...] | Unknown
    """The vendor's kit, each part with its version."""
    base: BaseImage | Unknown
    """The image to start from."""
    python: PythonVersion | Unknown
    """The version in the image."""
    torch: tuple[Line, ...] | Unknown
    """Requirements for PyTorch and what belongs to it."""
    triton: Line
    """A requirement; ``none`` where the stack has no Triton."""
    flagtree: Line
    """A requirement; ``none`` where the stack has no FlagTree."""
    numpy: Line
    """A requirement; ``none`` where the release chooses."""
    package_index: IndexAddress | Literal["unknown", "default"]
    """Where these packages are had; ``default``: where pip looks."""
    apt_build: tuple[DebianPackage, ...] = ()
    """Debian packages for compiling; none of them is in the image."""
    apt_runtime: tuple[DebianPackage, ...] = ()
    """Debian packages in the image."""
    environment: PythonEnvironment | None = None
    """None: the image gets an environment of its own, made from the system's Python."""
    activate: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]+$")] | None = None
    """The base image's script with the SDK's settings, for servers that no login shell starts."""
    as_root: Reason | None = None
    """Why the server runs as root; None: as a user of its own."""

    triton_post_install: tuple[Line, ...] = ()
    """What goes beside Triton: the vendor's backend of it."""

    def requirements(self, compiler: Literal["triton", "flagtree"]) -> tuple[str, ...]:
        """torch and numpy as the stack names them, and one of its compilers.

        Raises ValueError naming the one that nobody tells, or that the stack has not.
        """
        named: dict[str, tuple[Line, ...] | str] = {
            "torch": self.torch,
            compiler: self.triton if compiler == "triton" else self.flagtree,
            "numpy": self.numpy,
        }
        for name, value in named.items():
            if value == UNKNOWN or (name == compiler and value == "none"):
                raise ValueError(f"{name} is {value}")
        after = self.triton_post_install if compiler == "triton" else ()
        rows = [*self.torch, str(named[compiler]), *after, self.numpy]
        return tuple(text for text in rows if text != "none")


class UsedImage(Frozen):
    """An image that somebody builds on, beside the stacks' own bases."""

    reference: ImageReference
    """Its name in a registry."""
    what: Line | None = None
    """What it is for."""
    source: Source
    """Where it is named."""


class VllmWay(Frozen):
    """One way in which vLLM is had for a device."""

    how: Literal["compiled", "patched", "plugin", "vendor-image", "none"]
    """``none``: nobody is known to have it."""
    what: Line
    """Project and version."""
    source: Source
    """Where that stands."""


class FlagGems(Frozen):
    """What FlagGems calls the vendor, and PyTorch's device and dispatch key with it."""

    vendor: Line
    """The name of the vendor's folder in FlagGems."""
    torch_device: Line
    """PyTorch's name of the device: ``cuda``, ``npu``."""
    dispatch_key: Line
    """``none`` where the vendor's PyTorch takes the place of CUDA's or the CPU's own."""
    source: Source
    """Where that stands."""


class DeviceQuery(Frozen):
    """The vendor's program that lists devices, and how its output is read.

    ``count`` matches once for each device; ``memory_used`` has a group with the memory in use, in
    MiB. ``unknown``: nobody here has seen its output.
    """

    argv: Annotated[tuple[Line, ...], Field(min_length=1)]
    """Program and arguments."""
    count: Line
    """A regular expression that matches once for each device."""
    memory_used: Line
    """A regular expression with a group: MiB in use."""
    driver: Line | None = None
    """Has a group with the version of the loaded driver, where the output tells it."""
    source: Source
    """Where the program is described."""
    output: Source | None = None
    """A real output that the patterns were made for, where ``source`` only names the program."""


class VisibleDevices(Frozen):
    """The variables that choose devices: for the framework, and for the container's toolkit."""

    framework: EnvName | Unknown
    """Read by the framework inside the container."""
    toolkit: EnvName | Literal["unknown", "none"]
    """Read by the container toolkit; ``none`` where there is none."""
    sources: tuple[Source, ...]
    """Where they are described."""


class Communication(Frozen):
    """The library for collective operations and the variables it reads."""

    library: Line
    """Its name."""
    env: tuple[EnvName, ...] = ()
    """Variables that it reads."""
    sources: tuple[Source, ...] = ()
    """Where it is described."""


class LaunchProfile(Frozen):
    """How a container gets the device; profiles stand in order of privilege, least first.

    ``{index}`` in ``devices`` is filled in for each accelerator of a node, ``{indices}`` in a
    variable with all of them (``0,1``).
    """

    name: Literal["toolkit", "raw", "privileged"]
    """``toolkit``: the vendor's container toolkit; ``raw``: device files; ``privileged``."""
    source: Source | None = None
    """Where it is described; an accelerator has to name it."""
    devices: tuple[str, ...] = ()
    """Device files."""
    mounts: tuple[str, ...] = ()
    """Paths of the host, as ``docker run --volume`` takes them."""
    group_add: tuple[str, ...] = ()
    """Groups that own the device files."""
    cap_add: tuple[str, ...] = ()
    """Capabilities of Linux."""
    security_opt: tuple[str, ...] = ()
    """As ``docker run --security-opt`` takes them."""
    ulimits: dict[Name, int] = {}
    """Soft and hard limit alike; -1 is no limit."""
    ipc: Literal["host"] | None = None
    """``host``: shared memory of the host."""
    network: Literal["host"] | None = None
    """``host``: the host's own network."""
    runtime: str | None = None
    """The OCI runtime that the toolkit installed."""
    gpus: Literal["all"] | None = None
    """As ``docker run --gpus`` takes it."""
    privileged: bool = False
    """Everything that the host has."""
    env: dict[EnvName, Line] = {}
    """Variables of the container."""


class Disagreement(Frozen):
    """Two sources that say different things of one fact, and which one counts here.

    ``fact`` is the path of the value in the manifest, such as ``device_query/argv``.
    """

    fact: Line
    """Its path in the manifest."""
    source: Source
    """The one that is followed."""
    other: Line
    """What the other one says."""
    other_source: Source
    """The other one."""
    because: Reason
    """Why it is not followed."""


def unknown_facts(content: Any, path: str = "") -> tuple[str, ...]:
    """The paths of what is ``unknown`` or ``unresolved`` in a manifest's plain content."""
    rows: Iterable[tuple[object, Any]]
    if isinstance(content, dict):
        rows = content.items()
    elif isinstance(content, list | tuple):
        rows = enumerate(content)
    else:
        return (path,) if content in (UNKNOWN, UNRESOLVED) else ()
    found: list[str] = []
    for name, value in rows:
        found += unknown_facts(value, f"{path}/{name}" if path else str(name))
    return tuple(found)


def fact_at(content: Any, path: str) -> Any:
    """The value at a path of a manifest's plain content. Raises KeyError."""
    for part in path.split("/"):
        if isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        elif isinstance(content, dict):
            content = content[part]
        else:
            raise KeyError(path)
    return content
