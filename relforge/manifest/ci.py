"""How continuous integration runs relforge: the part of the site configuration that ``relforge ci``
and ``relforge plan --matrix`` read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import Line, PositiveInt, RelativePath

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)]
Glob = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./*-]*$", max_length=128)]
"""A branch or tag; ``*`` stands for anything but a slash, ``**`` for anything."""


def _free(name: str) -> str:
    taken = ("PATH", "HOME", "BEFORE", "RELEASES", "VERB", "RELFORGE_SITE", "RELFORGE_HOME")
    if name in taken or name.startswith(("GITHUB_", "CI_", "RUNNER_", "LD_")):
        raise ValueError("is a variable that means something else in a job")
    return name


SecretName = Annotated[
    str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=128), AfterValidator(_free)
]
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.][^\x00-\x1f\x7f]*$")]
Work = Literal["build", "publish", "promote"]
Action = Literal["checkout", "setup-python", "cache", "upload-artifact", "download-artifact"]


class CiSecret(Frozen):
    """A secret of the CI's own store, and the file that a job writes it to."""

    name: SecretName
    """As the CI's store has it."""
    file: RelativePath
    """Beside the site configuration, which names it by this path."""
    jobs: tuple[Work, ...] = ("publish", "promote")
    """The jobs that need it; no other is given it."""


class CiSite(Frozen):
    """What the workflows do, and where."""

    install: tuple[Requirement, ...] = ("relforge[lint]",)
    """What pip installs in jobs that check and plan; none: relforge is there."""
    runner_install: tuple[Requirement, ...] = ("relforge[bench,eval,sbom]",)
    """What pip installs in jobs that build, publish and promote; none: relforge is there."""
    python: Annotated[str, StringConstraints(pattern=r"^3\.[0-9]{1,2}$")] = "3.12"
    """Of the jobs that check and plan; others use their runner's ``python3``."""
    branches: tuple[Glob, ...] = ("main",)
    """What a push to one of them changed is built."""
    release_tags: tuple[Glob, ...] = ("v*",)
    """A tag like one of them releases."""
    targets: tuple[Label, ...] = ("all",)
    """Where releases are sent and promoted; none: the release folder stays on its runner."""
    per: Literal["release", "device"] = "release"
    """What gets a job of its own. A job for all releases of a device does what they share once."""
    runner: Label = "ubuntu-latest"
    """Checks and plans on GitHub, and builds releases of processors."""
    image: Line | None = None
    """Checks and plans on GitLab; None: ``python:<python>``."""
    labels: dict[Label, tuple[Label, ...]] = {}
    """Of the runners of a device; without an entry ``self-hosted`` and ``relforge-<device>``."""
    runners_have_sites: bool = False
    """Runners have site configurations of their own, which count where something is built,
    published or promoted."""
    environment: Label | None = None
    """The environment of promotions, whose rules (who has to agree) the CI keeps."""
    timeout_minutes: PositiveInt = 360
    """Of one job that builds, publishes or promotes."""
    secrets: tuple[CiSecret, ...] = ()
    """What jobs get from the CI's own store."""
    actions: dict[Action, Label] = {}
    """Other versions of GitHub's own actions: a tag, or a commit."""

    @model_validator(mode="after")
    def _each_once(self) -> CiSite:
        for what, found in (
            ("secret", [one.name for one in self.secrets]),
            ("file", [one.file for one in self.secrets]),
        ):
            if twice := sorted({one for one in found if found.count(one) > 1}):
                raise ValueError(f"the same {what} stands twice: {', '.join(twice)}")
        return self
