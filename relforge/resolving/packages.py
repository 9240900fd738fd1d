"""Python packages, as a lock pins them: exact wheels for the image and for the build."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import content_key
from relforge.lock import LockedSource, LockedWheels, request_key
from relforge.manifest.device import Device
from relforge.manifest.release import Release
from relforge.resolving.resolving import Resolving

if TYPE_CHECKING:
    from relforge.gitio import Git

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}

# relforge's own templates install with uv and pack prebuilt trees with wheel.
BUILD_TOOLS = ("uv>=0.5", "wheel>=0.43")


@dataclass(frozen=True)
class Packages:
    """The wheels of the image, those of its build, and the key of what was asked for."""

    wheels: LockedWheels
    build_wheels: LockedWheels
    request: str | None


def packages_of(making: Resolving, sources: Mapping[str, LockedSource]) -> Packages:
    """The packages of a release; kept from before where nothing else is asked for.

    What patches and newer commits of sources change does not move them, unless requirement files
    changed.
    """
    release, device = making.release, making.device
    machine = _MACHINES[device.architecture]
    if release.build.image is not None:
        nothing = LockedWheels(python_version="none", machine=machine)
        return Packages(nothing, nothing, None)
    wanted = making.attempt("Python packages", partial(_wanted, making, sources))
    request = None if wanted is None else _request(release, device, wanted)
    kept = _kept(making, request)
    if kept is not None:
        return kept
    from relforge.sources.wheelhouse import resolve

    python = release.build.python
    index = device.stack.package_index if python.with_stack else None
    unknown = LockedWheels(python_version=device.python, machine=machine, resolved=False)

    def solved(*, build: bool) -> LockedWheels:
        return resolve(
            python.model_copy(
                update={
                    "requirements": wanted or (),
                    "build_requirements": (*BUILD_TOOLS, *python.build_requirements),
                }
            ),
            python_version=device.python,
            site=making.site,
            ctx_line=making.line,
            build=build,
            machine=machine,
            index=index if index and "://" in index else None,
            cancel=making.cancel,
        )

    wheels = None
    if wanted is not None:
        wheels = making.attempt("Python packages", partial(solved, build=False))
    build_wheels = making.attempt("Python packages of the build", partial(solved, build=True))
    return Packages(wheels or unknown, build_wheels or unknown, request)


def _request(release: Release, device: Device, wanted: tuple[str, ...]) -> str:
    """What decides the wheels; what files of sources ask for stands in *wanted*."""
    python = release.build.python
    return content_key(
        {
            "wanted": wanted,
            "constraints": python.constraints,
            "exclude": python.exclude,
            "build": (*BUILD_TOOLS, *python.build_requirements),
            "interpreter": device.python,
            "architecture": device.architecture,
            "index": device.stack.package_index if python.with_stack else None,
        }
    )


def _wanted(making: Resolving, sources: Mapping[str, LockedSource]) -> tuple[str, ...]:
    """The requirements of the release, of files in its sources, and of the device's stack."""
    from relforge.sources.api import store_of

    python = making.release.build.python
    wanted = list(python.requirements)
    if python.with_stack:
        wanted += making.device.stack.requirements
    for name, files in python.requirement_files.items():
        tree = sources[name].tree
        if tree is None:
            raise RelforgeError(
                f"the requirement files of source {name} could not be read",
                code=ExitCode.SOURCE,
                why="the source could not be had",
            )
        for path in files:
            wanted += without(read_requirements(store_of(making.home), tree, path), python.exclude)
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


def _kept(making: Resolving, request: str | None) -> Packages | None:
    before = making.before()
    if before is None or not (before.wheels.resolved and before.build_wheels.resolved):
        return None
    if before.packages is None:
        same = before.request == request_key(making.release, making.device)
    else:
        same = before.packages == request
    return Packages(before.wheels, before.build_wheels, request) if same else None


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
