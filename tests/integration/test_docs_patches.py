"""docs/patches.md does what it says: its commands are run as they stand there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relforge.card.lint.document import read
from tests.support.doc_blocks import ROOT, Shell, marked
from tests.support.patching import Repository, write_patch_set

PATCHED = "hello_server/__init__.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The hello project with one plain patch, and its lock."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "hello", project)
    served = tmp_path / "git" / "hello.git"
    served.parent.mkdir()
    make: list[str | Path] = [
        sys.executable,
        ROOT / "examples" / "hello" / "make_repo.py",
        served,
    ]
    subprocess.run(make, check=True, capture_output=True)
    upstream = Repository(project / "upstream")
    clone: list[str | Path] = ["git", "clone", "-q", "--no-local", served, upstream.path]
    subprocess.run(clone, check=True, capture_output=True)
    upstream.git("tag", "v1")
    patched = (upstream.path / PATCHED).read_bytes() + b"PATCHED = True\n"
    upstream.commit({PATCHED: patched}, "A patch")
    write_patch_set(project / "patches", {"0001-a-patch.patch": upstream.mailbox("v1")})
    upstream.git("checkout", "-q", "v1")
    upstream.commit({"NEWS": b"newer\n"}, "A newer base")
    upstream.git("tag", "v2")
    manifest = project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    patches = "patches:\n  - {name: hello-patches, source: hello, path: patches}\n\nbuild:"
    manifest.write_text(manifest.read_text().replace("build:", patches, 1))
    (project / ".relforge").mkdir()
    (project / ".relforge" / "site.yaml").write_text(
        f"kind: site\nhome: home\n"
        f"git_mirrors: [{{prefix: 'https://git.example/', to: 'file://{served.parent}/'}}]\n"
    )
    Shell(project).type("relforge lock --release hello-cpu_x86")
    return project


@pytest.mark.timeout(300)
def test_the_guide(project: Path) -> None:
    (settings,) = (b.text for b in read(ROOT / "docs/patches.md").blocks if b.language == "yaml")
    shell, said = Shell(project), ""
    for number, block in enumerate(marked("docs/patches.md", __file__)):
        if number == 1:  # they stand behind the first block
            with (project / ".relforge" / "site.yaml").open("a") as site:
                site.write(settings)
        said += shell.type(block).both
    assert "signed by vendor, ciphertext unaltered" in said
    # The folder was taken back to the base; what was edited stands behind the vendor's patch.
    assert "PATCHED" not in (project / "build/cpu_x86/hello" / PATCHED).read_text()
    series = (project / "my-patches" / "series").read_text().split()
    assert series[0] == "0001-a-patch.patch"
    assert "+# mine" in (project / "my-patches" / series[1]).read_text()
    moved = (project / "patches-v2" / "series").read_text().split()
    assert len(moved) == 1
    assert "PATCHED = True" in (project / "patches-v2" / moved[0]).read_text()
    assert (project / "hello-2.bundle").is_file()
