"""From the names that a user types to targets, in the order in which they are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.manifest.publishing import RegistryTarget
from relforge.manifest.publishing import Target as Spec
from relforge.manifest.site import Site

if TYPE_CHECKING:
    from relforge.publishing.target import Target

# Images before the pages that name them. Each module is loaded when a target of its kind is asked
# for: the hubs' clients are heavy.
_CLASSES = {
    "registry": ("registry", "RegistryTarget"),
    "folder": ("folder", "FolderTarget"),
    "tar": ("tar", "TarTarget"),
    "huggingface": ("huggingface", "HuggingFaceTarget"),
    "modelscope": ("modelscope", "ModelScopeTarget"),
    "git": ("git", "GitTarget"),
}
_ORDER = tuple(_CLASSES)


def choose(site: Site, names: Sequence[str], *, home: Path) -> tuple[Target, ...]:
    """The named targets (``all``: every one); HOST/NAME is a registry that nobody configured.

    ``home`` keeps notes of interrupted uploads.
    Raises RelforgeError (USAGE) for a name that the site does not know, or a bad HOST/NAME.
    """
    specs = dict(site.publish.targets)
    wanted: dict[str, Spec] = {}
    for name in names:
        if name == "all":
            wanted |= specs
        elif "/" in name:
            from relforge.oci.reference import Repository

            Repository.parse(name)
            wanted[name] = RegistryTarget(kind="registry", release=name)
        else:
            from relforge.publishing.delivering import require_targets

            require_targets([name], list(specs), site.file)
            wanted[name] = specs[name]
    ordered = sorted(wanted.items(), key=lambda item: _ORDER.index(item[1].kind))
    return tuple(_make(name, spec, site, home) for name, spec in ordered)


def _make(name: str, spec: Spec, site: Site, home: Path) -> Target:
    module, cls = _CLASSES[spec.kind]
    # What they keep between runs: notes of interrupted uploads, a clone.
    kept = {"registry": "uploads", "git": "work"}
    more = {kept[spec.kind]: home / "publications" / spec.kind} if spec.kind in kept else {}
    found: Target = getattr(import_module(f"relforge.publishing.targets.{module}"), cls)(
        name, spec, site, **more
    )
    return found


def release_place(site: Site, names: Sequence[str], fill: Mapping[str, str]) -> str | None:
    """``HOST/NAME`` that people pull from: of the first named registry, else the site's first."""
    specs = site.publish.targets
    for name in names:
        if "/" in name:
            return name
    for spec in [specs[name] for name in names if name in specs] + list(specs.values()):
        if isinstance(spec, RegistryTarget):
            return spec.release.format_map({name: value.lower() for name, value in fill.items()})
    return None
