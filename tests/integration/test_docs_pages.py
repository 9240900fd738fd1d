"""docs/runs.md, board.md and ci.md do what they say, with runs and releases that need no engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.doc_blocks import ROOT, Shell, marked
from tests.support.published import make_published


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """In a copy of examples/hello whose engine answers nobody."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "hello", project)
    (project / ".relforge").mkdir()
    site = {"kind": "site", "home": "home", "engine": {"host": f"unix://{tmp_path}/nobody.sock"}}
    (project / ".relforge" / "site.yaml").write_text(json.dumps(site))
    return Shell(project)


@pytest.mark.timeout(300)
def test_runs(shell: Shell) -> None:
    ids = []
    for _ in range(2):
        shell.type("relforge build --release hello-cpu_x86 2>/dev/null || test $? = 3")
        listed = shell.type("relforge runs --json").stdout
        ids.append(json.loads(listed)["runs"][0]["id"])
    here = Shell(shell.folder, {"EARLIER": ids[0], "RUN": ids[1]})
    looked, collected = (here.type(block).both for block in marked("docs/runs.md", __file__))
    assert looked.count(ids[1]) > 3
    assert "engine" in looked, "what preflight missed"
    assert "= hello-cpu_x86: the same" in looked
    assert collected
    left = json.loads(here.type("relforge runs --json").stdout)["runs"]
    assert [run["id"] for run in left] == ids[::-1], "what is fresh stays"


@pytest.mark.timeout(300)
def test_the_board(shell: Shell) -> None:
    project = shell.folder
    for folder in ("dist", "other-dist", "archive"):
        make_published(project, dist=project / folder)
    (block,) = marked("docs/board.md", __file__)
    said = shell.type(block)
    assert "tiny-adder" in (project / "public" / "board" / "index.html").read_text()
    assert json.loads(said.stdout[said.stdout.index("{") : said.stdout.rindex("}") + 1])


@pytest.mark.timeout(300)
def test_workflows(shell: Shell) -> None:
    shell.type(
        "printf '.relforge\\n' > .gitignore\ngit init --quiet --initial-branch main\n"
        "git config user.name Tests\ngit config user.email tests@tests.invalid\n"
        "git add .\ngit commit --quiet --message 'The release'\n"
    )
    written, matrices = (shell.type(block) for block in marked("docs/ci.md", __file__))
    assert (shell.folder / ".github" / "workflows" / "relforge.yml").is_file()
    assert ".gitlab-ci.yml" in written.both
    every, changed = (json.loads(line) for line in matrices.stdout.splitlines())
    assert [job["releases"] for job in every["include"]] == [["hello-cpu_x86"]]
    assert changed["include"] == [], "main is what is there"
