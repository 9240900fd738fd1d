"""Weights that lie in a folder already: hashed, and compared with what the manifest pins."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import Output, stamp


def pinned_files(
    folder: Path,
    files: Mapping[str, str],
    *,
    subject: str,
    hint: str,
    cancel: CancelToken,
    line: Callable[[str], None],
) -> tuple[Output, ...]:
    """The pinned files (path to SHA-256) of *folder*, each hashed; what else lies there is left.

    ``subject`` names the model, ``hint`` says what else than restoring a file can be done. Raises
    RelforgeError (SOURCE) for a file that is missing or another one.
    """
    outputs: list[Output] = []
    for name, sha256 in sorted(files.items()):
        cancel.check()
        path = folder / name
        if not path.is_file():
            raise RelforgeError(
                f"weights of {subject}: {name} is missing",
                code=ExitCode.SOURCE,
                where=str(path),
                hint=f"restore the file, or {hint}",
            )
        found = stamp(path)
        line(f"{found.sha256}  {name}")
        if found.sha256 != sha256:
            raise RelforgeError(
                f"weights of {subject}: {name} is not the pinned file",
                code=ExitCode.SOURCE,
                where=str(path),
                why=f"expected sha256 {sha256}, found {found.sha256}",
                hint="restore the file; if the change is meant, pin the new hash in the model",
            )
        outputs.append(found)
    return tuple(outputs)


def names_in(folder: Path, *, subject: str) -> tuple[str, ...]:
    """All files below a folder whose content nothing pins, but for hidden ones; sorted.

    Links to files count, as a hub's cache has them; links to folders are not followed. Raises
    RelforgeError (SOURCE) when there is no file, or one whose name cannot be mounted.
    """
    found: list[str] = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                found.append(str(path.relative_to(folder)))
    odd = [n for n in found if "," in n or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in n)]
    if odd or not found:
        raise RelforgeError(
            f"weights of {subject}: "
            + ("a file has a name that cannot be mounted" if odd else "there are no files"),
            code=ExitCode.SOURCE,
            where=str(folder / odd[0]).encode("utf-8", "replace").decode() if odd else str(folder),
            hint="rename it: a comma or a control character means something else in a mount"
            if odd
            else "name the folder that holds the model's files under weights in the site "
            "configuration",
        )
    return tuple(sorted(found))
