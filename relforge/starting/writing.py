"""Writes what was made: checked first, all of it or nothing, and nothing over what is there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relforge.checking.rules import Contradiction, of_model, of_release
from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.manifest.device import Device
from relforge.manifest.loader import parse
from relforge.manifest.model import Model
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.schema import models, schema_bytes
from relforge.serving.place import example_hosts
from relforge.serving.spec import launch_spec

FOLDERS = ("devices", "models", "releases")
_SCHEMA = re.compile(r"\$schema=(\S*/)[\w-]+\.schema\.json")
_NO_IMAGE = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Target:
    """Where the manifests go: a project, or a folder that becomes one."""

    root: Path

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    def file(self, kind: str, name: str) -> Path:
        """The file of a manifest of this kind and name."""
        return self.manifests / f"{kind}s" / f"{name}.yaml"

    @property
    def schemas(self) -> str:
        """Where its manifests have their schemas, relative to themselves."""
        for path in sorted(self.manifests.glob("*/*.yaml")):
            first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
            found = _SCHEMA.search(first)
            if found is not None and (path.parent / found[1]).is_dir():
                return found[1]
        return "../schema/"

    def schema_files(self) -> dict[Path, bytes]:
        """The schemas that the project lacks: all of them, or none."""
        folder = self.manifests / "releases" / self.schemas
        if (self.manifests / "releases").is_dir() and folder.is_dir():
            return {}
        folder = self.manifests / "schema"
        return {
            folder / f"{name}.schema.json": schema_bytes(model)
            for name, model in models().items()
            if not (folder / f"{name}.schema.json").exists()
        }


def check_model(text: str, path: Path, project: Project) -> tuple[Model, list[Contradiction]]:
    """The model that a manifest's text describes, and what contradicts itself in it.

    Raises RelforgeError (USAGE).
    """
    model = parse(text, path, Model)
    others = {}
    for name in project.model_files:
        with contextlib.suppress(RelforgeError):
            others[name] = project.model(name)
    return model, list(of_model(model, others))


def check_release(
    text: str, path: Path, device: Device, model: Model
) -> tuple[Release, list[Contradiction]]:
    """The same of a release, whose launch is tried where the device's facts allow it."""
    release = parse(text, path, Release)
    found = list(of_release(release, device, model))
    try:
        device = device.for_release(release.stack, builds=release.build.image is None)
    except RelforgeError:
        return release, found  # it was told which of the device's facts are unknown
    launch_spec(release, device, image=_NO_IMAGE, weights=Path("/w"), hosts=example_hosts(release))
    return release, found


def refuse_existing(paths: Iterable[Path], *, force: bool) -> None:
    """Raises RelforgeError (USAGE) naming every file that is there already."""
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise RelforgeError(
            f"{there[0].name} is there already",
            code=ExitCode.USAGE,
            where=", ".join(map(str, there)),
            why="nothing is overwritten unasked",
            hint="give the release another --variant, edit the file, or add --force",
        )


def write_all(files: Mapping[Path, bytes]) -> None:
    """Writes every file, or leaves the project as it was. Raises RelforgeError (ENVIRONMENT)."""
    with _undone_on_failure(files):
        for path, data in files.items():
            write_atomic(path, data)


@contextlib.contextmanager
def _undone_on_failure(files: Mapping[Path, bytes]) -> Iterator[None]:
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    made = [parent for path in files for parent in path.parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for path, data in before.items():
            with contextlib.suppress(OSError, RelforgeError):
                if data is None:
                    path.unlink(missing_ok=True)
                elif path.read_bytes() != data:
                    write_atomic(path, data)
        for folder in sorted(set(made), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
