"""The site configuration's file: where it is looked for, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.loader import load
from relforge.manifest.site import Site

if TYPE_CHECKING:
    from relforge.manifest.project import Project


def find_site_file(project: Project, explicit: Path | None = None) -> Path | None:
    """The site configuration in force: --site, $RELFORGE_SITE, the project's, the user's."""
    named = explicit or (Path(p) if (p := os.environ.get("RELFORGE_SITE")) else None)
    if named is not None:
        if not named.is_file():
            raise RelforgeError(
                f"the site configuration {named} does not exist",
                code=ExitCode.USAGE,
                where=str(named),
                hint="correct --site or RELFORGE_SITE",
            )
        return named.resolve()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places: Iterable[Path] = (
        project.root / ".relforge" / "site.yaml",
        config / "relforge" / "site.yaml",
    )
    return next((p for p in places if p.is_file()), None)


def load_site(path: Path | None) -> Site:
    """The site configuration with every path made absolute."""
    if path is None:
        return Site()
    site = load(path, Site)
    base = path.parent

    def at(p: Path) -> Path:
        # Without `..`, and without following links: what the user wrote is what messages show.
        return Path(os.path.normpath(base / p.expanduser()))

    def maybe(p: Path | None) -> Path | None:
        return None if p is None else at(p)

    return site.read_from(path).model_copy(
        update={
            "home": maybe(site.home),
            "dist": maybe(site.dist),
            "extra_ca": maybe(site.extra_ca),
            "proxy": site.proxy
            and site.proxy.model_copy(update={"password_file": maybe(site.proxy.password_file)}),
            "key_passphrase_file": maybe(site.key_passphrase_file),
            "identities": tuple(at(p) for p in site.identities),
            "python": site.python.model_copy(
                update={
                    "find_links": tuple(
                        link if "://" in link else str(at(Path(link)))
                        for link in site.python.find_links
                    )
                }
            ),
            "patch_sets": {name: at(p) for name, p in site.patch_sets.items()},
            "trusted_keys": tuple(
                key.model_copy(update={"public_key": at(key.public_key)})
                for key in site.trusted_keys
            ),
            "engine": site.engine.model_copy(
                update={
                    "docker": maybe(site.engine.docker),
                    "config_dir": maybe(site.engine.config_dir),
                }
            ),
        }
    )


def home_folder(site: Site) -> Path:
    """Where store, runs and work areas live."""
    if site.home is not None:
        return site.home
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(os.environ.get("RELFORGE_HOME") or data / "relforge")
