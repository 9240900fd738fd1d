"""docs/guide-vendor.md does what it says, in the project that docs/new-device.md ends with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relforge.manifest.project import find_project
from tests.support.doc_blocks import ROOT, Shell, blocks, marked


@pytest.mark.timeout(300)
def test_the_guide_for_vendors(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "hello", project)
    shell = Shell(project)
    for block in blocks("docs/new-device.md"):
        shell.type(block)
    said = [shell.type(block).both for block in marked("docs/guide-vendor.md", __file__)]
    _keys, checked, _patches, sealed, opened = said
    assert " 0 faults" in checked
    key = (project / "keys" / "toys.sign.pub.pem").read_text()
    assert find_project(project, project).device("toy_x1").vendor.public_key == key
    assert "hello-toys.bundle" in sealed
    # The site names no trusted key: the one in the device's manifest counts, or it had not opened.
    assert "trusted_keys" not in (project / ".relforge" / "site.yaml").read_text()
    assert "hello-toys: 1 patches make tree" in opened
    assert "customer" in opened, "inspect names the recipients"
    assert not (project / "patches").exists()
    tree = project / "tree" / "toy_x1" / "hello" / "hello_server" / "__init__.py"
    assert tree.read_text().endswith('DEVICE = "toy"\n')
