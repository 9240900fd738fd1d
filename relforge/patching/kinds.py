"""Which kind of patch set lies at a path: plain, sealed, FlagScale's."""

from __future__ import annotations

from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.flagscale.entry import patches_at
from relforge.patching.series import SERIES, read_series
from relforge.patching.source import PatchSource


def patch_set_at(path: Path, *, name: str | None = None) -> PatchSource:
    """The patch set at *path*: a folder with a ``series`` file, a bundle, or FlagScale's.

    ``name`` is what a plain set is called (else as its folder); a bundle has its own. Raises
    RelforgeError (SOURCE) when there is nothing, or the series is wrong.
    """
    if not (path / SERIES).exists() and (entry := patches_at(path, name=name)) is not None:
        return entry
    if path.is_dir():
        return read_series(path, name=name)
    if not path.exists():
        raise RelforgeError(
            "the patch set is not there",
            code=ExitCode.SOURCE,
            where=str(path),
            hint="check the path in the release's manifest, or name a bundle for it under "
            "`patch_sets` in the site configuration",
        )
    # It brings ciphers along, which take long to import.
    from relforge.patching.bundle import BundlePatches

    return BundlePatches(path)
