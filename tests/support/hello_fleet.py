"""Many small releases of examples/hello: one model on one device, in as many variants as asked for.

They share source, wheels and base image, and differ in their names: each has an image of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from relforge.lock import write_lock
from relforge.manifest.project import find_project
from relforge.manifest.site import Site
from relforge.subject import subject

CHECKOUT = Path(__file__).resolve().parents[2]
BASE = "hello-cpu_x86"


def make_project(root: Path, count: int) -> tuple[str, ...]:
    """A project with so many variants, locked; returns the releases' names."""
    shutil.copytree(CHECKOUT / "examples" / "hello", root)
    folder = root / "manifests" / "releases"
    text = (folder / f"{BASE}.yaml").read_text()
    names = tuple(f"{BASE}-v{number:03}" for number in range(count))
    for name in names:
        named = text.replace(f"name: {BASE}\n", f"name: {name}\nvariant: {name[-4:]}\n")
        (folder / f"{name}.yaml").write_text(named)
    project = find_project(root, root)
    lock = subject(project, project.release(BASE), Site()).lock
    for name in names:
        write_lock(project, project.release(name), lock.model_copy(update={"release": name}))
    for suffix in (".yaml", ".lock.yaml"):
        (folder / f"{BASE}{suffix}").unlink()
    return names


def make_site(path: Path, work: Path, settings: Mapping[str, Any], **changes: Any) -> Path:
    """A site configuration whose git mirror serves the source from a repository below ``work``."""
    repository = work / "git" / "hello.git"
    if not repository.exists():
        repository.parent.mkdir(parents=True)
        script = CHECKOUT / "examples" / "hello" / "make_repo.py"
        subprocess.run([sys.executable, script, repository], check=True, capture_output=True)
    mirror = {"prefix": "https://git.example/", "to": f"file://{repository.parent}/"}
    path.write_text(json.dumps({**settings, "git_mirrors": [mirror], **changes}))
    return path


def settings_of(site: Path) -> dict[str, Any]:
    """What a site configuration says, with its places absolute, and without signing or targets."""
    found: dict[str, Any] = yaml.safe_load(site.read_text())
    for name in ("publish", "identities", "patch_sets", "trusted_keys", "dist"):
        found.pop(name, None)
    found["home"] = str(site.parent / found["home"])
    return found
