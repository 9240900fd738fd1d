"""What an image tells of itself (dockerfiles/tools/report.py), and what it must tell."""

from __future__ import annotations

import re
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen


class PipCheck(Frozen):
    """What ``pip check`` says inside the image."""

    status: int
    complaints: tuple[str, ...]


class ImageReport(Frozen):
    """Python's version, packages by name, vLLM's plugins by distribution, Debian's packages.

    ``licenses`` are what the Python packages' own metadata states.
    """

    python: str
    packages: dict[str, str]
    pip_check: PipCheck
    plugins: dict[str, tuple[str, ...]]
    licenses: dict[str, str]
    debian: dict[str, str]


def read_report(folder: Path) -> ImageReport:
    """The report that a build exported to a folder."""
    return ImageReport.model_validate_json((folder / "report.json").read_bytes())


def check_report(
    report: ImageReport, *, release: str, accepted: tuple[str, ...], plugins: tuple[str, ...]
) -> None:
    """Raises RelforgeError (BUILD) for complaints of pip beside those *accepted*, for accepted ones
    that it does not have, and for *plugins* that vLLM would not find."""
    _pip(report.pip_check, accepted, release)
    registered = {_canonical(name) for name in report.plugins}
    for name in plugins:
        # Without an entry point vLLM serves all the same, on another device.
        if _canonical(name) not in registered:
            raise RelforgeError(
                f"{name} is built as a plugin and registers nothing with vLLM",
                code=ExitCode.BUILD,
                where=f"release {release}, build.packages",
                why="the installed package has no entry point in a group vllm.*",
                hint="correct its source, or leave plugin out for this package",
            )


def _pip(check: PipCheck, accepted: tuple[str, ...], release: str) -> None:
    complaints = set(check.complaints)
    unknown = sorted(complaints - set(accepted))
    stale = sorted(set(accepted) - complaints)
    if not unknown and not stale:
        return
    why = [f"not listed: {c}" for c in unknown] + [f"listed, but not found: {c}" for c in stale]
    raise RelforgeError(
        "pip check inside the image does not say what the manifest lists",
        code=ExitCode.BUILD,
        where=f"release {release}, build.python.pip_check_exceptions",
        why="\n".join(why),
        hint="correct the packages, or list the complaint with the reason why it is harmless",
    )


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
