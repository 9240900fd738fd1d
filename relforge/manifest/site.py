"""The site configuration: what differs between the places where relforge runs.

It says where things are to be had; what a release contains is pinned elsewhere. One choice of it is
visible in an image: whether the base came from a registry or was made here (``base_image``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, PrivateAttr, StringConstraints

from relforge.frozen import Frozen
from relforge.manifest.common import Name
from relforge.manifest.source import carries_no_secret


class EngineSite(Frozen):
    """Which container engine to talk to; both default to what PATH and the environment say."""

    docker: Path | None = None
    host: str | None = None
    config_dir: Path | None = None


class TrustedKey(Frozen):
    """A public key whose signature on a bundle is accepted."""

    name: str
    public_key: Path


class PythonSite(Frozen):
    """Where wheels come from, beside what pip itself is configured with."""

    find_links: tuple[str, ...] = ()
    torch_cpu_index: str | None = None
    index_timeout_s: float = 5.0


class Mirror(Frozen):
    """A URL prefix and what to use in its place."""

    prefix: Annotated[str, StringConstraints(min_length=1)]
    to: Annotated[str, StringConstraints(min_length=1), AfterValidator(carries_no_secret)]
    """Credentials belong into git's own credential helpers: a URL ends in argument lists."""


class HubSite(Frozen):
    """How to talk to one hub; None: the hub's public address, and without a token."""

    endpoint: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$"),
            AfterValidator(carries_no_secret),
        ]
        | None
    ) = None
    token_file: Path | None = None
    """A file whose content is the token: a token itself never stands in a configuration."""


class HubsSite(Frozen):
    """The hubs that weights come from."""

    huggingface: HubSite = HubSite()
    modelscope: HubSite = HubSite()


class Site(Frozen):
    """The whole site configuration; every path in it is absolute or relative to its own file."""

    kind: Literal["site"] = "site"
    home: Path | None = None
    dist: Path | None = None
    engine: EngineSite = EngineSite()
    base_image: Literal["auto", "registry", "bootstrap"] = "auto"
    trusted_keys: tuple[TrustedKey, ...] = ()
    identities: tuple[Path, ...] = ()
    key_passphrase_file: Path | None = None
    """Its first line opens the protected ones among ``identities``."""
    patch_sets: dict[Name, Path] = {}
    python: PythonSite = PythonSite()
    git_mirrors: tuple[Mirror, ...] = ()
    apt_mirror: str | None = None
    extra_ca: Path | None = None
    min_free_disk_bytes: int | None = None
    hubs: HubsSite = HubsSite()
    weights: dict[Name, Path] = {}
    """Folders that hold a model's weights already, by the model's name."""
    nodes: dict[Name, Path] = {}
    """Nodes files of releases that several hosts serve, by the release's or the device's name."""

    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """The file that this was read from, for messages; ``None``: defaults alone."""
        return self._file

    def read_from(self, file: Path) -> Site:
        """The same, and it knows its file.

        The paths of ``hubs``, ``weights`` and ``nodes`` are absolute.
        """

        def at(path: Path) -> Path:
            # Without `..`, and without following links: messages show what the user wrote.
            return Path(os.path.normpath(file.parent / path.expanduser()))

        def hub(site: HubSite) -> HubSite:
            token_file = None if site.token_file is None else at(site.token_file)
            return site.model_copy(update={"token_file": token_file})

        known = self.model_copy(
            update={
                "hubs": HubsSite(
                    huggingface=hub(self.hubs.huggingface), modelscope=hub(self.hubs.modelscope)
                ),
                "weights": {name: at(path) for name, path in self.weights.items()},
                "nodes": {name: at(path) for name, path in self.nodes.items()},
            }
        )
        known._file = file
        return known
