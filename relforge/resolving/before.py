"""The lock that a release had before."""

from __future__ import annotations

from relforge.errors import RelforgeError
from relforge.lock import Lock, lock_path
from relforge.manifest.loader import load
from relforge.manifest.project import Project
from relforge.manifest.release import Release


def lock_before(project: Project, release: Release) -> Lock | None:
    path = lock_path(project, release)
    try:
        return load(path, Lock) if path.is_file() else None
    except RelforgeError:
        return None
