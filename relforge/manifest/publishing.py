"""Where releases go and who signs them: the part of the site configuration that publishing reads.

Names in targets may hold ``{release}``, ``{model}``, ``{device}``, ``{vendor}`` and ``{variant}``,
in lower case where the target asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from relforge import redact
from relforge.addresses import (
    DOCKER_LOGINS,
    HUB_LOGINS,
    git_address,
    plain_address,
)
from relforge.frozen import Frozen
from relforge.manifest.common import Line, Name

PLACEHOLDERS = ("release", "model", "device", "vendor", "variant")
_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


def _known_placeholders(text: str) -> str:
    for found in _BRACES.finditer(text):
        if found[1] not in PLACEHOLDERS:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"{found[0]} is no placeholder; there are {known}")
    return text


Pattern = Annotated[
    str, StringConstraints(min_length=1, max_length=512), AfterValidator(_known_placeholders)
]
"""It may hold ``{release}``, ``{model}``, ``{device}``, ``{vendor}`` and ``{variant}``."""
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
"""Of an image."""
Branch = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_-]+(\.?[A-Za-z0-9_-]+)*(/[A-Za-z0-9_-]+(\.?[A-Za-z0-9_-]+)*)*$"
    ),
]
"""Of a git repository."""


def _names_a_repository(text: str) -> str:
    if "@" in text:
        # The value is in no message: it may hold a password.
        redact.register(text.partition("://")[2].rpartition("@")[0] or text.rpartition("@")[0])
        raise ValueError("HOST/NAME holds no login and no digest; logins are docker login's")
    if "://" in text:
        raise ValueError("HOST/NAME is no URL: write it without http:// or https://")
    return text


Repository = Annotated[
    Pattern,
    AfterValidator(_names_a_repository),
    AfterValidator(plain_address(DOCKER_LOGINS)),
]
"""``HOST/NAME`` with the placeholders of ``Pattern``, without tag, digest and login."""
HttpUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$"),
    AfterValidator(plain_address(HUB_LOGINS)),
]
"""An address without login."""


class TrustedKey(Frozen):
    """A public key whose signature is accepted."""

    name: str
    """What reports and policies call it."""
    public_key: Path
    """A file in PEM."""


class RegistryTarget(Frozen):
    """An OCI registry. Logins are Docker's own: ``docker login``, credential helpers."""

    kind: Literal["registry"]
    release: Repository
    """``HOST/NAME`` of the repository that people pull from."""
    candidate: Repository | None = None
    """``HOST/NAME`` that images wait in until they are promoted; None: the release repository,
    where a candidate has no tag."""
    plain_http: bool = False
    """For a registry on this host, or behind a tunnel; loopback addresses need no word."""
    mutable_tags: tuple[Tag, ...] = ()
    """Tags that move with each promotion, such as ``latest``; all others never move."""


class FolderTarget(Frozen):
    """A folder that gets each release as a folder of its own."""

    kind: Literal["folder"]
    path: Path
    """It gets one folder for each release."""


class TarTarget(Frozen):
    """A folder that gets each release as one tar: an OCI layout that ``docker load`` reads."""

    kind: Literal["tar"]
    path: Path
    """It gets one tar for each release."""


class HubTarget(Frozen):
    """A model repository of Hugging Face Hub or ModelScope; endpoint and token: ``hubs``."""

    kind: Literal["huggingface", "modelscope"]
    repository: Pattern
    """``NAMESPACE/NAME``."""
    draft: bool = True
    """A candidate is a pull request (Hugging Face) or a private repository (ModelScope) first."""
    weights: bool = False
    """Also uploads the model's weights, where the project holds them."""
    private: bool = False
    """Whether a new repository is private."""


class GithubSite(Frozen):
    """A GitHub release on top of a git target."""

    repository: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
    """``OWNER/NAME``."""
    token_file: Path
    """Its first line is the token."""
    api: HttpUrl = "https://api.github.com"
    """The REST API's address."""


class GitTarget(Frozen):
    """A git remote that gets cards, record and evidence as a commit, and a tag."""

    kind: Literal["git"]
    url: Annotated[str, StringConstraints(min_length=1), AfterValidator(git_address)]
    """Whatever git understands."""
    branch: Branch = "main"
    """What people read."""
    path: Pattern = "{release}"
    """The folder in the repository."""
    github: GithubSite | None = None
    """A GitHub release for each tag."""


Target = Annotated[
    RegistryTarget | FolderTarget | TarTarget | HubTarget | GitTarget, Field(discriminator="kind")
]


class SigningSite(Frozen):
    """The key that signs images and attestations: ECDSA P-256 or Ed25519, PEM or cosign's form."""

    key: Path
    """The private key's file."""
    passphrase_file: Path | None = None
    """Its first line opens the key; without it the terminal is asked."""


class LicensePolicy(Frozen):
    """Which licences an image may not hold, as SPDX identifiers or words of a package's licence."""

    forbidden: tuple[Line, ...] = ()
    """Each refuses the image."""
    allowed_packages: dict[Line, Line] = {}
    """Packages that may have one all the same, each with the reason."""


class ContentPolicy(Frozen):
    """What must not be in layers, cards and evidence, beside secrets and private keys."""

    deny_hosts: tuple[Line, ...] = ()
    """Host names and domains of the maker's own network; a domain is also everything below it."""
    deny_words: tuple[Line, ...] = ()
    """Each as a word of its own, whatever the case."""
    allowed: dict[Line, Line] = {}
    """Paths in the image, as ``fnmatch`` patterns, that may hold what looks like a secret, each
    with the reason."""


class PublishSite(Frozen):
    """Targets by name, the signing key, and what must not be published."""

    targets: dict[Name, Target] = {}
    """Where releases are sent, by name."""
    signing: SigningSite | None = None
    """The key that signs; without one nothing is signed."""
    trusted_keys: tuple[TrustedKey, ...] = ()
    """Whose signatures on releases count beside the site's own; none: those of the site's
    ``trusted_keys``, whose signatures on bundles count."""
    licenses: LicensePolicy = LicensePolicy()
    """Which licences an image may not hold."""
    content: ContentPolicy = ContentPolicy()
    """What must not be in a release."""
    policy: Path | None = None
    """What a release must have before it is promoted (docs/verify.md); None: the built-in one."""
    vulnerability_scanner: Name | None = None
    """``grype`` or ``trivy``; None: whichever is found with its data."""

    def at(self, where: Callable[[Path], Path]) -> PublishSite:
        """The same with every path as ``where`` makes it."""

        def target(one: Target) -> Target:
            if isinstance(one, (FolderTarget, TarTarget)):
                return one.model_copy(update={"path": where(one.path)})
            if isinstance(one, GitTarget) and one.github is not None:
                github = one.github.model_copy(update={"token_file": where(one.github.token_file)})
                return one.model_copy(update={"github": github})
            return one

        signing = self.signing and SigningSite(
            key=where(self.signing.key),
            passphrase_file=self.signing.passphrase_file and where(self.signing.passphrase_file),
        )
        return self.model_copy(
            update={
                "targets": {name: target(one) for name, one in self.targets.items()},
                "signing": signing,
                "trusted_keys": tuple(
                    TrustedKey(name=one.name, public_key=where(one.public_key))
                    for one in self.trusted_keys
                ),
                "policy": self.policy and where(self.policy),
            }
        )
