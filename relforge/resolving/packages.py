"""Python packages, as a lock pins them: exact wheels for the image and for the build."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.lock import LockedSource, LockedWheels, request_key
from relforge.manifest.device import Device
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.resolving.attempt import Attempt, OnLine
from relforge.resolving.before import lock_before

if TYPE_CHECKING:
    from relforge.gitio import Git

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}

# relforge's own templates install with uv and pack prebuilt trees with wheel.
BUILD_TOOLS = ("uv>=0.5", "wheel>=0.43")


def packages_of(
    project: Project,
    release: Release,
    device: Device,
    site: Site,
    home: Path,
    sources: dict[str, LockedSource],
    on_line: OnLine,
    cancel: CancelToken,
    attempt: Attempt,
) -> tuple[LockedWheels, LockedWheels]:
    """The packages of the image, and those of its build; kept from before where nothing changed."""
    machine = _MACHINES[device.architecture]
    if release.build.image is not None:
        nothing = LockedWheels(python_version="none", machine=machine)
        return nothing, nothing
    kept = _kept(project, release, device)
    if kept is not None:
        return kept
    from relforge.sources.wheelhouse import resolve

    python = release.build.python
    index = device.stack.package_index if python.with_stack else None
    unknown = LockedWheels(python_version=device.python, machine=machine, resolved=False)

    def solved(*, build: bool) -> LockedWheels:
        update: dict[str, tuple[str, ...]] = {
            "build_requirements": (*BUILD_TOOLS, *python.build_requirements)
        }
        if not build:
            update = {"requirements": _wanted(release, device, home, sources)}
        return resolve(
            python.model_copy(update=update),
            python_version=device.python,
            site=site,
            ctx_line=on_line,
            build=build,
            machine=machine,
            index=index if index and "://" in index else None,
            cancel=cancel,
        )

    return (
        attempt("Python packages", partial(solved, build=False)) or unknown,
        attempt("Python packages of the build", partial(solved, build=True)) or unknown,
    )


def _wanted(
    release: Release, device: Device, home: Path, sources: dict[str, LockedSource]
) -> tuple[str, ...]:
    """The requirements of the release, of files in its sources, and of the device's stack."""
    from relforge.sources.api import store_of

    python = release.build.python
    wanted = list(python.requirements)
    if python.with_stack:
        wanted += device.stack.requirements
    for name, files in python.requirement_files.items():
        tree = sources[name].tree
        if tree is None:
            raise RelforgeError(
                f"the requirement files of source {name} could not be read",
                code=ExitCode.SOURCE,
                why="the source could not be had",
            )
        for path in files:
            wanted += without(read_requirements(store_of(home), tree, path), python.exclude)
    return tuple(wanted)


def without(requirements: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """The requirements that name no excluded package. Raises RelforgeError (SOURCE)."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    names = {canonicalize_name(name) for name in excluded}
    kept = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise RelforgeError(
                f"a requirement file of the source has a line that cannot be read: {text}",
                code=ExitCode.SOURCE,
                why=str(error),
            ) from error
        if canonicalize_name(requirement.name) not in names:
            kept.append(text)
    return kept


def _kept(
    project: Project, release: Release, device: Device
) -> tuple[LockedWheels, LockedWheels] | None:
    before = lock_before(project, release)
    if before is None or before.request != request_key(release, device):
        return None
    if not (before.wheels.resolved and before.build_wheels.resolved):
        return None
    return before.wheels, before.build_wheels


def read_requirements(git: Git, tree: str, path: str) -> Iterator[str]:
    """The requirements in a file of a tree, ``-r`` files included.

    Index options are passed over: where packages come from is the site's business. Raises
    RelforgeError (SOURCE) for a file that is not there.
    """
    try:
        text = git.read_file(tree, path).decode("utf-8", "replace")
    except RelforgeError as error:
        raise RelforgeError(
            f"the source has no {path}",
            code=ExitCode.SOURCE,
            where=tree,
            hint="correct build.python.requirement_files in the release",
        ) from error
    folder = path.rsplit("/", 1)[0] + "/" if "/" in path else ""
    for raw in text.replace("\\\n", "").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        if included := re.match(r"^(?:-r|--requirement)[ =]+(\S+)$", line):
            yield from read_requirements(git, tree, folder + included[1])
        elif not line.startswith("-"):
            yield line
