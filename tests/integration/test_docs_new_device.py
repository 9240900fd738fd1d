"""docs/new-device.md does what it says: its commands are run as they stand there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.doc_blocks import ROOT, Shell, marked

LONGEST_TEMPLATE = 40


@pytest.mark.timeout(300)
def test_the_guide(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "hello", project)
    shell = Shell(project)
    said = [shell.type(block).stdout for block in marked("docs/new-device.md", __file__)]
    _source, _schemas, shown, _template, made = said
    assert "communication: unknown" in shown
    assert "- stacks/toykit3/flagtree" in shown.partition("unknown:\n")[2]
    assert "ENV TOY_CACHE=/tmp/toy" in made
    assert " 0 faults" in made
    for path in (project / "manifests").glob("*/*.yaml"):
        first = path.read_text().split("\n", 1)[0]
        assert (path.parent / first.split("$schema=")[1]).is_file(), path.name
    template = project / "dockerfiles" / "toy_x1.j2"
    assert len(template.read_text().splitlines()) <= LONGEST_TEMPLATE
