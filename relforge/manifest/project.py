"""Projects: where manifests, templates and patch sets are looked up.

A project is a folder with ``manifests/``. Behind every project stands the built-in one (this
repository's own, carried by the installed package), so that a vendor's project need not repeat
devices and templates.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen, content_key
from relforge.manifest.fileversion import FileVersion, file_version
from relforge.manifest.loader import load
from relforge.manifest.translations import Translations

if TYPE_CHECKING:
    from relforge.manifest.device import Device
    from relforge.manifest.model import Model
    from relforge.manifest.reference import ReferenceFigures
    from relforge.manifest.release import Release

ManifestT = TypeVar("ManifestT", bound=Frozen)


def builtin_root() -> Path:
    """The built-in project: inside the installed package, or the checkout of an editable one."""
    package = Path(__file__).resolve().parents[1]
    carried = package / "_project"
    return carried if carried.is_dir() else package.parent


def find_project(start: Path, explicit: Path | None = None) -> Project:
    """The project that *start* lies in, or the one named by ``--project``.

    Raises RelforgeError (USAGE) when the named folder is no project.
    """
    builtin = builtin_root()
    if explicit is not None:
        root = explicit.resolve()
        if not (root / "manifests").is_dir():
            raise RelforgeError(
                f"{explicit} is not a relforge project",
                code=ExitCode.USAGE,
                where=str(root),
                why="it has no folder manifests/",
                hint="name the folder that contains manifests/",
            )
    else:
        candidates = (p for p in (start.resolve(), *start.resolve().parents))
        root = next((p for p in candidates if (p / "manifests").is_dir()), builtin)
    return Project((root,) if root == builtin else (root, builtin))


def normalised(name: str) -> str:
    """Device names compare without case, and with ``-`` as ``_``: bi_V150 = BI-V150."""
    return name.replace("-", "_").casefold()


@dataclass(frozen=True)
class Project:
    """The manifests of a project with the built-in one behind it; files are read on first use."""

    roots: tuple[Path, ...]

    @property
    def root(self) -> Path:
        return self.roots[0]

    def path(self, relative: str) -> Path:
        """A project file, looked up through the roots. Raises RelforgeError (USAGE)."""
        for root in self.roots:
            if os.path.exists(found := f"{root}/{relative}"):  # noqa: PTH110 - faster
                return Path(found)
        raise RelforgeError(
            f"the project has no {relative}",
            code=ExitCode.USAGE,
            where=", ".join(str(root) for root in self.roots),
            why="a manifest names it",
        )

    def _files(self, folder: str) -> dict[str, Path]:
        """Manifest files by stem; the project's own stand before the built-in ones."""
        found: dict[str, Path] = {}
        for root in self.roots:
            for path in sorted((root / "manifests" / folder).glob("*.yaml")):
                if not path.name.endswith(".lock.yaml"):
                    found.setdefault(path.stem, path)
        return found

    @cached_property
    def device_files(self) -> dict[str, Path]:
        return self._files("devices")

    @cached_property
    def _device_paths(self) -> dict[str, Path]:
        return {normalised(stem): path for stem, path in self.device_files.items()}

    @cached_property
    def model_files(self) -> dict[str, Path]:
        return self._files("models")

    @cached_property
    def release_files(self) -> dict[str, Path]:
        return self._files("releases")

    @cached_property
    def reference_files(self) -> dict[str, Path]:
        return self._files("references")

    @property
    def own_releases(self) -> tuple[str, ...]:
        """Names of the releases in the project's own folder."""
        own = self.root / "manifests"
        return tuple(n for n, path in self.release_files.items() if path.is_relative_to(own))

    @cached_property
    def devices(self) -> dict[str, Device]:
        """All devices by name. Raises RelforgeError (USAGE) for two devices that share a name."""
        loaded = {stem: self._device(path) for stem, path in self.device_files.items()}
        taken: dict[str, str] = {}
        for device in loaded.values():
            for name in (device.name, *device.aliases):
                other = taken.setdefault(normalised(name), device.name)
                if other != device.name:
                    raise RelforgeError(
                        f"devices {other} and {device.name} share the name {name}",
                        code=ExitCode.USAGE,
                        where=str(self.device_files[device.name]),
                        hint="give one of them another name or alias",
                    )
        return loaded

    def device(self, name: str) -> Device:
        """A device by name or alias. Raises RelforgeError (USAGE) that suggests the nearest.

        A name that is a file's is read alone: a fault in another device's file does not matter.
        """
        if (path := self._device_paths.get(normalised(name))) is not None:
            return self._device(path)
        known = {
            normalised(alias): device
            for device in self.devices.values()
            for alias in (device.name, *device.aliases)
        }
        found = known.get(normalised(name))
        if found is not None:
            return found
        names = {normalised(d.name): d.name for d in self.devices.values()}
        raise unknown("device", name, names, "relforge devices")

    def model(self, name: str) -> Model:
        """A model by name. Raises RelforgeError (USAGE)."""
        files = self.model_files
        if name not in files:
            raise unknown("model", name, {n: n for n in files}, "ls manifests/models")
        from relforge.manifest.model import Model

        return _named(_shared(files[name], Model), files[name])

    def release(self, name: str) -> Release:
        """A release by name. Raises RelforgeError (USAGE)."""
        if name not in self.release_files:
            raise unknown(
                "release", name, {n: n for n in self.release_files}, "relforge plan --all"
            )
        from relforge.manifest.release import Release

        path = self.release_files[name]
        return _named(load(path, Release), path)

    def reference(self, name: str) -> ReferenceFigures:
        """A reference by name. Raises RelforgeError (USAGE)."""
        files = self.reference_files
        if name not in files:
            raise unknown("reference", name, {n: n for n in files}, "ls manifests/references")
        from relforge.manifest.reference import ReferenceFigures

        return _named(load(files[name], ReferenceFigures), files[name])

    @cached_property
    def references(self) -> tuple[ReferenceFigures, ...]:
        """All references. Raises RelforgeError (USAGE)."""
        return tuple(self.reference(name) for name in self.reference_files)

    @cached_property
    def translation_files(self) -> tuple[Path, ...]:
        """The built-in project's before the project's own, which count where both say something."""
        folders = (root / "manifests" / "translations" for root in reversed(self.roots))
        return tuple(path for folder in folders for path in sorted(folder.glob("*.yaml")))

    @cached_property
    def _translations(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for path in self.translation_files:
            one = load(path, Translations)
            found.setdefault(one.language, {}).update(one.sentences)
        return found

    @cached_property
    def translations_key(self) -> str:
        """Changes with every translation."""
        return content_key(self._translations)

    def translations(self, language: str) -> dict[str, str]:
        """The project's translations of what its manifests say, its own before the built-in ones.

        Raises RelforgeError (USAGE).
        """
        return self._translations.get(language, {})

    def default_release(self, device: Device) -> Release:
        """What ``--device`` alone means. Raises RelforgeError (USAGE) when the device has none."""
        if device.default_release is None:
            raise RelforgeError(
                f"device {device.name} has no default release",
                code=ExitCode.USAGE,
                where=str(self.device_files[device.name]),
                hint="set default_release there, or name one with --release",
            )
        release = self.release(device.default_release)
        if self.device(release.device) != device:
            raise RelforgeError(
                f"the default release of {device.name} is made for {release.device}",
                code=ExitCode.USAGE,
                where=str(self.device_files[device.name]),
                hint="set default_release to a release of this device",
            )
        return release

    def _device(self, path: Path) -> Device:
        from relforge.manifest.device import Device

        return _named(_shared(path, Device), path)


def _named(manifest: ManifestT, path: Path) -> ManifestT:
    name = getattr(manifest, "name", None)
    if name != path.stem:
        raise RelforgeError(
            f"{path.name} describes {name!r}",
            code=ExitCode.USAGE,
            where=str(path),
            why="a manifest's file is named as what it describes",
            hint=f"rename the file to {name}.yaml, or correct its name:",
        )
    return manifest


def _shared(path: Path, model: type[ManifestT]) -> ManifestT:
    """Many releases share a device or a model; of releases and locks each is read once anyway."""
    try:
        version = file_version(path)
    except OSError:
        return load(path, model)  # which says why
    return cast(ManifestT, _loaded(path, model, version))


@lru_cache(maxsize=128)
def _loaded(path: Path, model: type[Frozen], version: FileVersion) -> Frozen:  # noqa: ARG001
    """A manifest as it is on disk in this version."""
    return load(path, model)


def unknown(kind: str, name: str, known: dict[str, str], listing: str) -> RelforgeError:
    """The error for a name that no manifest has, with the nearest known one."""
    near = difflib.get_close_matches(normalised(name), known, n=1, cutoff=0.4)
    return RelforgeError(
        f"unknown {kind} {name!r}",
        code=ExitCode.USAGE,
        why=f"known: {', '.join(sorted(known.values())) or 'none'}",
        hint=f"did you mean {known[near[0]]!r}?" if near else f"list them: {listing}",
    )
