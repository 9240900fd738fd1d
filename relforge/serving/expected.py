"""What manifest and build say of a server, for the probes to hold it against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relforge.manifest.device import Device
from relforge.manifest.release import Release

_PACKAGES = {"vllm": "vllm", "flagscale": "vllm", "sglang": "sglang"}
_SET = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True)
class Expected:
    """What is known of the server before it is asked; without anything, little is held against it.

    ``version`` is that of its package in the image; ``without_flaggems`` why no sign of FlagGems is
    looked for, and None where the release says that it is used.
    """

    device: Device | None = None
    accelerators_per_node: int = 0
    languages: tuple[str, ...] = ()
    version: str | None = None
    without_flaggems: str | None = "the release does not say that FlagGems is used"


def expected_of(
    release: Release,
    device: Device,
    *,
    languages: tuple[str, ...],
    flaggems: bool,
    python_packages: Mapping[str, str] | None = None,
) -> Expected:
    """``python_packages`` are those of the image, by name; ``flaggems`` is ``says_flaggems``."""
    package = _PACKAGES.get(release.engine)
    without = None if flaggems else Expected.without_flaggems
    return Expected(
        device=device,
        accelerators_per_node=release.serve.accelerators // release.serve.nodes,
        languages=languages,
        version=(python_packages or {}).get(package) if package else None,
        without_flaggems=without if device.accelerator else "no accelerator",
    )


def says_flaggems(release: Release) -> bool:
    """Whether the release builds FlagGems in, or asks for it by its variable."""
    if str(release.serve.env.get("USE_FLAGGEMS", "")).lower() in _SET:
        return True
    names = {package.distribution for package in release.build.packages}
    names |= set(release.sources)
    return any(name.lower().replace("-", "").replace("_", "") == "flaggems" for name in names)
