"""A base image as an OCI layout, for a builder that does not see the engine's images."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import NamedTuple

from relforge import proc
from relforge.engine.base_image import BaseResult
from relforge.engine.cli import find_cli
from relforge.engine.images import find_image
from relforge.engine.layout import describe, normalise, replace_folder
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, held_lock
from relforge.leftovers import owned_folder
from relforge.manifest.site import EngineSite


class BaseLayout(NamedTuple):
    """The folder, and the digest of the image in it: the very one that the engine has."""

    folder: Path
    digest: str


def base_layout(base: BaseResult, *, home: Path, site: EngineSite) -> BaseLayout:
    """The engine's base image, written once below ``<home>/base``.

    So an image that stands on it has the same digest, whichever builder made it. Raises
    RelforgeError (ENVIRONMENT).
    """
    cli = find_cli(site)
    image = find_image(base.reference, cli=cli)
    if image is None:
        raise RelforgeError(
            f"the engine has no {base.reference} any more",
            code=ExitCode.ENVIRONMENT,
            hint="run the same command again: the base is made anew",
        )
    folder = home / "base" / base.key / "handed"
    with held_lock(folder.with_name("handed.lock"), purpose="base image"):
        try:
            if folder.is_dir() and describe(folder).digest == image.id:
                return BaseLayout(folder, image.id)
        except RelforgeError:
            pass  # damaged: it is written anew
        with owned_folder(folder.parent, f".{folder.name}") as work:
            archive = work / "image.tar"
            proc.run(
                cli.argv("save", "--output", str(archive), base.reference),
                code=ExitCode.ENVIRONMENT,
                env=cli.environment,
            )
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(work / "layout", filter="data")
                archive.unlink()
                (work / "layout" / "manifest.json").unlink(missing_ok=True)
                facts = normalise(work / "layout", code=ExitCode.ENVIRONMENT)
                replace_folder(work / "layout", folder)
            except OSError as error:
                raise cannot_write(folder, error) from error
    return BaseLayout(folder, facts.digest)
