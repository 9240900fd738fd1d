"""docs/new-device.md does what it says: its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST_TEMPLATE = 40


@pytest.mark.timeout(300)
def test_the_guide(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(CHECKOUT / "examples" / "hello", project)
    served = tmp_path / "git" / "hello.git"
    served.parent.mkdir()
    make: list[str | Path] = [sys.executable, project / "make_repo.py", served]
    subprocess.run(make, check=True, capture_output=True)
    (project / ".relforge").mkdir()
    (project / ".relforge" / "site.yaml").write_text(
        f"kind: site\nhome: home\n"
        f"git_mirrors: [{{prefix: 'https://git.example/', to: 'file://{served.parent}/'}}]\n"
    )
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env.pop("RELFORGE_SITE", None)
    said = []
    for block in BLOCK.findall((CHECKOUT / "docs" / "new-device.md").read_text()):
        argv = ["bash", "-euc", block]
        done = subprocess.run(
            argv, cwd=project, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
    _schemas, shown, _template, made = said
    assert "communication: unknown" in shown
    assert "- stacks/toykit3/flagtree" in shown.partition("unknown:\n")[2]
    assert "ENV TOY_CACHE=/tmp/toy" in made
    assert " 0 faults" in made
    for path in (project / "manifests").glob("*/*.yaml"):
        first = path.read_text().split("\n", 1)[0]
        assert (path.parent / first.split("$schema=")[1]).is_file(), path.name
    template = project / "dockerfiles" / "toy_x1.j2"
    assert len(template.read_text().splitlines()) <= LONGEST_TEMPLATE
