"""The site configuration: what differs between the places where relforge runs.

It says where things are to be had; what a release contains is pinned elsewhere. One choice of it is
visible in an image: whether the base came from a registry or was made here (``base_image``).
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from relforge.addresses import (
    HUB_LOGINS,
    NO_APT_LOGIN,
    PIP_LOGINS,
    git_address,
    index_address,
    page_address,
    plain_address,
)
from relforge.frozen import Frozen
from relforge.manifest.ci import CiSite
from relforge.manifest.common import ImageReference, Line, Name, PositiveInt, RepositoryName
from relforge.manifest.publishing import PublishSite, TrustedKey

_ENGINE_LOGINS = "an engine is reached with an ssh key, or with certificates (DOCKER_CERT_PATH)"
AptMirror = Annotated[str, AfterValidator(plain_address(NO_APT_LOGIN))]
"""An address without login."""


class EngineSite(Frozen):
    """Which container engine to talk to; both default to what PATH and the environment say."""

    docker: Path | None = None
    """The program."""
    host: Annotated[str, AfterValidator(plain_address(_ENGINE_LOGINS, user=True))] | None = None
    """Its address: ``unix://``, ``tcp://`` or ``ssh://``."""
    config_dir: Path | None = None
    """Docker's own settings, with logins."""
    builder: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "default"
    """The buildx builder that builds images; ``default`` is the engine's own BuildKit. Another one
    does not see the engine's images: bases then come from registries."""


class Mirror(Frozen):
    """A URL prefix and what to use in its place."""

    prefix: Annotated[str, StringConstraints(min_length=1), AfterValidator(git_address)]
    """The beginning of an address; the longest that matches counts."""
    to: Annotated[str, StringConstraints(min_length=1), AfterValidator(git_address)]
    """Credentials belong into git's credential helpers, or netrc: a URL ends in argument lists."""


class PythonSite(Frozen):
    """Where wheels come from, beside what pip itself is configured with."""

    find_links: tuple[Annotated[str, AfterValidator(page_address(PIP_LOGINS))], ...] = ()
    """Folders and pages that list wheels."""
    torch_cpu_index: Annotated[str, AfterValidator(index_address)] | None = None
    """The index with PyTorch's builds for processors."""
    index_mirrors: tuple[Mirror, ...] = ()
    """For the indexes that device manifests name; what pip is configured with is the host's own."""
    index_timeout_s: float = 15.0
    """How long an index may take to answer."""


_REGISTRY = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?/[a-z0-9._/-]*"
RegistryPrefix = Annotated[str, StringConstraints(pattern=f"^{_REGISTRY}$")]
"""The beginning of an image's name, registry first."""


class RegistryMirror(Frozen):
    """The beginning of image references, registry first, and what to pull in its place."""

    prefix: RegistryPrefix
    """The beginning of a reference; the longest that matches counts."""
    to: RegistryPrefix
    """Logins belong into the engine's own settings (``docker login``)."""

    @model_validator(mode="after")
    def _whole_names(self) -> RegistryMirror:
        host = self.prefix.split("/", 1)[0]
        if host != "localhost" and not any(sign in host for sign in ".:"):
            raise ValueError(
                f"a prefix begins with the registry's host: docker.io/{self.prefix} for Docker Hub"
            )
        if self.prefix.endswith("/") != self.to.endswith("/"):
            raise ValueError("`prefix` and `to` both end with a slash, or neither does")
        return self


_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def replaced(address: str, mirrors: Iterable[Mirror | RegistryMirror]) -> str:
    """The address with the longest matching prefix replaced, or as it is where none matches."""
    matching = [mirror for mirror in mirrors if address.startswith(mirror.prefix)]
    if not matching:
        return address
    best = max(matching, key=lambda mirror: len(mirror.prefix))
    return best.to + address[len(best.prefix) :]


def _one_host(text: str) -> str:
    if _HOST_NAME.fullmatch(text):
        return text.removeprefix(".").lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        # Of pip, curl, wget, apt and the hubs' libraries only some know more than this.
        raise ValueError(
            "is a host, an address or a domain (example.com is also everything below it); "
            "networks, patterns and ports are not understood by every program"
        ) from None


_PROXY_LOGINS = "write them as `user` and `password_file` beside it"
ProxyUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/]+/?$"),
    AfterValidator(plain_address(_PROXY_LOGINS)),
]
"""An address without login."""


class ProxySite(Frozen):
    """The HTTP proxy between this host and others.

    Where the site names none, relforge's own requests follow ``http_proxy``, ``https_proxy`` and
    ``no_proxy`` of the environment, and builds get none.
    """

    http: ProxyUrl | None = None
    """For addresses that begin with http."""
    https: ProxyUrl | None = None
    """For addresses that begin with https; its own address mostly begins with http."""
    no_proxy: tuple[Annotated[str, AfterValidator(_one_host)], ...] = ()
    """What is reached without it, beside this host itself."""
    user: Line | None = None
    """Goes with ``password_file``."""
    password_file: Path | None = None
    """A file whose first line is the password: it never stands in a configuration itself."""

    @model_validator(mode="after")
    def _complete(self) -> ProxySite:
        if self.http is None and self.https is None:
            raise ValueError("name `http`, `https` or both")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("`user` and `password_file` go together")
        return self


_CACHE_REFERENCE = (
    r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?/[a-z0-9._/-]+(:[A-Za-z0-9._-]+)?$"
)
CacheReference = Annotated[str, StringConstraints(pattern=_CACHE_REFERENCE)]
"""Registry, name and tag. Logins belong into the engine's own settings (``docker login``)."""


class CacheSite(Frozen):
    """Where build steps are shared with other builders; never those of sealed sources."""

    model_config = ConfigDict(populate_by_name=True)  # what was dumped can be read again

    to: CacheReference | None = None
    """Where this host's steps go after a build, intermediate stages too (``mode=max``)."""
    from_: tuple[CacheReference, ...] = Field(default=(), alias="from")
    """Where steps that were done elsewhere are looked for."""


class BuildSite(Frozen):
    """How builds use this host; no part of any key."""

    max_jobs: PositiveInt | None = None
    """Compile jobs at once; without it, what ``relforge/engine/jobs.py`` says."""
    cache: CacheSite = CacheSite()
    """Caches of BuildKit that several hosts share."""


class LargeFilesSite(Frozen):
    """Where large files lie on their way between the hosts of a cluster: one place for all."""

    folder: Path | None = None
    """Of a file system that all hosts see."""
    registry: RepositoryName | None = None
    """A repository, ``HOST/NAME``, that all hosts may push to and pull from."""
    at_least_bytes: PositiveInt = 16_000_000
    """Smaller files go through the driver."""

    @model_validator(mode="after")
    def _one_place(self) -> LargeFilesSite:
        if (self.folder is None) == (self.registry is None):
            raise ValueError("large files have one place: folder, or registry")
        return self


class RaySite(Frozen):
    """The cluster that ``--executor ray`` and ``relforge worker`` use (docs/ray.md)."""

    address: Annotated[str, StringConstraints(pattern=r"^[^\s/@]+:[0-9]+$")] | None = None
    """``HOST:PORT`` of the head."""
    token_file: Path | None = None
    """Whose content every process of the cluster shows to the others; of one cluster, the same on
    all hosts (``ray get-auth-token --generate`` makes one). None: what Ray's environment says."""
    wait_for_host_s: Annotated[float, Field(ge=0)] = 3600.0
    """How long a job waits for a host that has what it needs, before it fails."""
    lost_hosts: Annotated[int, Field(ge=0)] = 3
    """How often a job begins anew on another host, because its host or process was lost."""
    object_store_bytes: Annotated[int, Field(ge=80_000_000)] = 1_000_000_000
    """Shared memory of a worker for what is on its way; more than this waits on disk."""
    largest_weights_bytes: PositiveInt = 32_000_000_000
    """Weights above this are not sent: a worker's site names its own folder for them."""
    large_files: LargeFilesSite | None = None
    """Without it all files go through the driver."""


class LimitsSite(Frozen):
    """What jobs that run at once may take together; what is left out is what this host has."""

    jobs: PositiveInt | None = None
    """At once, where ``--jobs`` does not say; one without it."""
    cpu_cores: PositiveInt | None = None
    """In all, as jobs claim them; by default twice the host's, as no job uses all of its own all
    the time."""
    memory_bytes: PositiveInt | None = None
    """In all."""
    disk_bytes: PositiveInt | None = None
    """In relforge's home."""
    engine: PositiveInt = 2
    """Jobs that use the container engine."""
    registry: PositiveInt = 2
    """Jobs that send to registries, hubs and the like."""
    devices: dict[Name, PositiveInt] = {}
    """Jobs on a device by its name; where it is not named one on an accelerator, and on a processor
    as many as cores and memory allow."""


class HubSite(Frozen):
    """How to talk to one hub; None: the hub's public address, and without a token."""

    endpoint: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$"),
            AfterValidator(plain_address(HUB_LOGINS)),
        ]
        | None
    ) = None
    """Its address, where it is not the public one."""
    token_file: Path | None = None
    """A file whose content is the token: a token itself never stands in a configuration."""


class HubsSite(Frozen):
    """The hubs that weights come from."""

    huggingface: HubSite = HubSite()
    """Hugging Face Hub, or a mirror of it."""
    modelscope: HubSite = HubSite()
    """ModelScope."""


class Site(Frozen):
    """The whole site configuration; every path in it is absolute or relative to its own file."""

    kind: Literal["site"] = "site"
    home: Path | None = None
    """Store, runs and work areas; without it ``$RELFORGE_HOME``, else the user's data folder."""
    dist: Path | None = None
    """Where releases are published as folders; without it ``dist`` where the command is typed."""
    engine: EngineSite = EngineSite()
    """The container engine."""
    base_image: Literal["auto", "registry", "bootstrap"] = "auto"
    """``auto``: the registry's where it can be reached, else one made here."""
    trusted_keys: tuple[TrustedKey, ...] = ()
    """Whose signatures on sealed patch sets count."""
    identities: tuple[Path, ...] = ()
    """Private keys that open sealed patch sets."""
    key_passphrase_file: Path | None = None
    """Its first line opens the protected ones among ``identities``."""
    patch_sets: dict[Name, Path] = {}
    """Bundles that stand for the patch sets of manifests, by name."""
    python: PythonSite = PythonSite()
    """Where wheels come from."""
    git_mirrors: tuple[Mirror, ...] = ()
    """Of git sources."""
    registry_mirrors: tuple[RegistryMirror, ...] = ()
    """Of images."""
    apt_mirror: AptMirror | None = None
    """Debian's; its security updates are expected beside it, at ``<apt_mirror>-security``."""
    ubuntu_mirror: AptMirror | None = None
    """The same for images of Ubuntu's."""
    proxy: ProxySite | None = None
    """Without it the environment's counts."""
    extra_ca: Path | None = None
    """Certificates in PEM form that count beside the usual ones."""
    build: BuildSite = BuildSite()
    """How builds use this host."""
    limits: LimitsSite = LimitsSite()
    """What jobs that run at once may take together."""
    ray: RaySite = RaySite()
    """Many hosts, by Ray."""
    min_free_disk_bytes: int | None = None
    """Preflight asks for as much in ``home``."""
    hubs: HubsSite = HubsSite()
    """Where weights come from, and where hub targets are."""
    weights: dict[Name, Path] = {}
    """Folders that hold a model's weights already, by the model's name."""
    nodes: dict[Name, Path] = {}
    """Nodes files of releases that several hosts serve, by the release's or the device's name."""
    images: dict[ImageReference, Path] = {}
    """Archives (of ``docker save``) of images on request, and tars or layout folders of images of
    ``build.also`` whose registry is out of reach; by the reference in the manifest."""
    publish: PublishSite = PublishSite()
    """Where releases go, who signs them, and what they must have."""
    ci: CiSite = CiSite()
    """How workflows run relforge (docs/ci.md)."""

    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """The file that this was read from, for messages; ``None``: defaults alone."""
        return self._file

    def read_from(self, file: Path) -> Site:
        """The same, and it knows its file.

        Paths of ``hubs``, ``weights``, ``nodes``, ``images``, ``publish``, ``ray`` are absolute.
        """

        def at(path: Path) -> Path:
            # Without `..`, and without following links: messages show what the user wrote.
            return Path(os.path.normpath(file.parent / path.expanduser()))

        def hub(site: HubSite) -> HubSite:
            token_file = None if site.token_file is None else at(site.token_file)
            return site.model_copy(update={"token_file": token_file})

        large = self.ray.large_files
        if large is not None and large.folder is not None:
            large = large.model_copy(update={"folder": at(large.folder)})
        known = self.model_copy(
            update={
                "hubs": HubsSite(
                    huggingface=hub(self.hubs.huggingface), modelscope=hub(self.hubs.modelscope)
                ),
                "weights": {name: at(path) for name, path in self.weights.items()},
                "nodes": {name: at(path) for name, path in self.nodes.items()},
                "images": {name: at(path) for name, path in self.images.items()},
                "publish": self.publish.at(at),
                "ray": self.ray.model_copy(
                    update={
                        "token_file": self.ray.token_file and at(self.ray.token_file),
                        "large_files": large,
                    }
                ),
            }
        )
        known._file = file
        return known
