"""The files of a model with their hashes: of a folder here, or as a hub lists them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from relforge.cancel import CancelToken
from relforge.files import sha256_file
from relforge.manifest.site import Site
from relforge.weights.client import HubClient
from relforge.weights.faults import Hub, Repository
from relforge.weights.folder import names_in
from relforge.workarea import work_area

OnLine = Callable[[str], None]


def folder_hashes(folder: Path, *, model: str, line: OnLine) -> dict[str, str]:
    """SHA-256 of every file below *folder*. Raises RelforgeError (SOURCE)."""
    found = {}
    for name in names_in(folder, subject=model):
        found[name] = sha256_file(folder / name)
        line(f"{found[name]}  {name}")
    return found


def folder_pins(folder: Path, *, model: str, line: OnLine) -> dict[str, dict[str, Any]]:
    """The same, with sizes, as ``weights.files`` of what lies elsewhere has it."""
    return {
        name: {"sha256": sha256, "size_bytes": (folder / name).stat().st_size}
        for name, sha256 in folder_hashes(folder, model=model, line=line).items()
    }


def hub_pins(
    hub: Hub,
    repository: str,
    revision: str,
    *,
    model: str,
    site: Site,
    home: Path,
    cancel: CancelToken,
    line: OnLine,
) -> dict[str, dict[str, Any]]:
    """As the hub lists them at a revision; small files that it tells no hash of are fetched.

    Raises RelforgeError: SOURCE, ENVIRONMENT.
    """
    found = {}
    with work_area(home, "listing") as scratch:
        client = HubClient(Repository(hub, repository, revision, model), site, scratch)
        for file in sorted(client.look(cancel, line), key=lambda one: one.path):
            if file.path.startswith("."):
                continue  # of git, not of the model
            sha256, size_bytes = file.sha256, file.size_bytes
            if sha256 is None or size_bytes is None:
                into = scratch / "files"
                client.fetch(file.path, size_bytes or 0, into, cancel, line)
                path = into / file.path
                sha256, size_bytes = sha256_file(path), path.stat().st_size
                path.unlink()
            line(f"{sha256}  {file.path}")
            found[file.path] = {"sha256": sha256, "size_bytes": size_bytes}
    return found
