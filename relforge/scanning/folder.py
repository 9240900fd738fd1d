"""The last look before a release is sent anywhere: everything in its folder beside the layers.

Layers were searched when the image was made; here it is required that this very image passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from relforge.engine.blobs import blob_path
from relforge.engine.layout import describe
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.scanning.files import search_files
from relforge.scanning.hits import Hit
from relforge.scanning.looking import LookedFor
from relforge.scanning.seeking import Finder

REPORT = "content-scan.json"
_SHOWN = 20


def scan_published(
    folder: Path, site: Site, *, home: Path, roots: Iterable[Path] = ()
) -> tuple[Hit, ...]:
    """Searches cards, record, evidence, weights and what is attached to the image.

    ``home`` is relforge's, ``roots`` are the project's. Sealed content is not looked for: what is
    beside the image is made of evidence, which the stage ``scan`` searched with the sets open.
    Raises RelforgeError (PUBLISH) when the folder cannot be read.
    """
    try:
        facts = describe(folder / "image", code=ExitCode.PUBLISH)
        layers = {layer.digest for one in facts.each for layer in one.layers}
        skipped = {blob_path(folder / "image", digest) for digest in layers}
        files = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path not in skipped
        }
        looked_for = LookedFor(site, home, roots)
        return search_files(files, Finder(looked_for.searcher, looked_for.policy)).hits
    except OSError as error:
        raise RelforgeError(
            "the published folder cannot be searched",
            code=ExitCode.PUBLISH,
            where=str(folder),
            why=error.strerror or str(error),
            hint="publish the release again",
        ) from error


def require_clean(folder: Path, site: Site, *, home: Path, roots: Iterable[Path] = ()) -> None:
    """Raises RelforgeError (GATE) when the image's layers did not pass, or the rest has a hit."""
    digest = describe(folder / "image", code=ExitCode.PUBLISH).digest
    require_scanned(folder / "evidence" / REPORT, digest, name=folder.name)
    require_none(scan_published(folder, site, home=home, roots=roots), name=folder.name)


def require_scanned(report: Path, digest: str, *, name: str) -> None:
    """Raises RelforgeError (GATE) unless the report says that this image passed."""
    try:
        known = json.loads(report.read_bytes())
        passed = known["verdict"] == "pass" and known["image_digest"] == digest
        why = f"{report.name} says {known['verdict']} about {known['image_digest']}"
    except (OSError, ValueError, KeyError, TypeError):
        passed, why = False, f"it has no readable evidence/{REPORT}"
    if not passed:
        raise RelforgeError(
            f"{name} is not published: the content scan did not pass on this image",
            code=ExitCode.GATE,
            where=str(report),
            why=why,
            hint=f"relforge release --release {name}",
        )


def require_none(hits: tuple[Hit, ...], *, name: str) -> None:
    """Raises RelforgeError (GATE) that names every hit."""
    if hits:
        raise RelforgeError(
            f"{name} is not published: {len(hits)} things in it must not be read elsewhere",
            code=ExitCode.GATE,
            why=shown_hits(hits),
            hint="remove the cause and release again; what only looks like a secret can be let "
            "through in `publish.content.allowed` of the site configuration",
        )


def shown_hits(hits: tuple[Hit, ...]) -> str:
    """One line for each, places first; of many the first 20."""
    rows = [hit.shown() for hit in hits[:_SHOWN]]
    if len(hits) > _SHOWN:
        rows.append(f"and {len(hits) - _SHOWN} more")
    return "\n".join(rows)
