"""examples/hello with a sealed patch set whose only effect is a comment: a marker to look for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

AT_WORK = "the-compile-step-is-at-work"
RELEASE = "hello-cpu_x86"
PATCHED = ("csrc/_adder.cpp", "setup.py")


def seal(project: Path, site: Path, keys: Path, must: Callable[..., None]) -> None:
    """Seals the patch set of ``write_patch_set`` with the keys ``vendor`` in ``keys``, and locks.

    ``must`` runs relforge. From then on the patches are nowhere in the clear.
    """
    at: list[str | Path] = ["--project", project, "--site", site, "--release", RELEASE]
    sealing: list[str | Path] = ["--recipient", keys / "vendor.age.pub"]
    sealing += ["--sign", keys / "vendor.sign.pem"]
    bundle = project / "patches" / "secret.bundle"
    must("patch", "seal", *at, "--patch-set", "secret", *sealing, "--out", bundle)
    shutil.rmtree(project / "patches" / "secret")
    path = project / "manifests" / "releases" / f"{RELEASE}.yaml"
    path.write_text(path.read_text().replace("patches/secret", "patches/secret.bundle"))
    must("lock", *at)


def write_patch_set(folder: Path, repository: Path, project: Path, marker: str) -> None:
    """A patch that adds the marker in comments, and a compile step that takes some seconds."""
    work = folder / "edit"

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    git("clone", "-q", str(repository), str(work))
    for name in PATCHED:
        sign = "//" if name.endswith(".cpp") else "#"
        with (work / name).open("a") as handle:
            handle.write(f"{sign} {marker}\n")
    git("-C", str(work), "commit", "-qam", "Add a comment")
    patches = project / "patches" / "secret"
    patches.mkdir(parents=True)
    (patches / "0001-comment.patch").write_text(
        git("-C", str(work), "format-patch", "-1", "--stdout")
    )
    (patches / "series").write_text("0001-comment.patch\n")
    shutil.rmtree(work)
    path = project / "manifests" / "releases" / f"{RELEASE}.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["patches"] = [
        {"name": "secret", "source": "hello", "path": "patches/secret", "ships": "binaries"}
    ]
    native = manifest["build"]["packages"][0]["native"]
    native["commands"] = [["sh", "-c", f"echo {AT_WORK}; sleep 4"], *native["commands"]]
    path.write_text(yaml.safe_dump(manifest))
