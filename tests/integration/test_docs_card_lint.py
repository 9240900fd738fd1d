"""docs/card-lint.md lists the rules there are, its commands run, and our own pages are clean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relforge.card.lint.check import lint
from relforge.card.lint.document import parse, read
from relforge.card.lint.fixing import REPAIRS
from tests.support.card_lint_docs import PAGE, ROOT, page
from tests.support.doc_blocks import Shell, marked

CLEAN = ROOT / "tests" / "cards" / "clean" / "gpu.md"
OWN = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_rules_are_those_of_the_program() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.support.card_lint_docs"


def test_the_page_names_no_folder_of_the_machine_that_wrote_it() -> None:
    assert str(ROOT) not in page()
    assert not re.search(r"stands? in /|round in /", PAGE.read_text(encoding="utf-8"))


def test_the_table_of_repairs_is_whole() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("| rule | repair |\n|---|---|\n")[1].split("\n\n")[0]
    assert [row.split("|")[1].strip() for row in table.splitlines()] == list(REPAIRS)


def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    (block,) = marked("docs/card-lint.md", __file__)
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/other.md"):
        (tmp_path / name).write_text(CLEAN.read_text())
    said = Shell(tmp_path).type(block)
    assert said.stderr.count("nothing found") == block.text.count("README.md"), said.stderr
    assert "flow-image (error)" in said.stdout
    assert (tmp_path / "card-lint.sarif").exists()


def test_the_hooks_and_the_action_of_the_page_are_there() -> None:
    hooks, steps = (
        yaml.safe_load(block.text) for block in read(PAGE).blocks if block.language == "yaml"
    )
    there = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} == there
    folder = steps["steps"][0]["uses"].partition("@")[0].removeprefix("flagos-ai/relforge/")
    action = yaml.safe_load((ROOT / folder / "action.yml").read_text())
    assert set(steps["steps"][0]["with"]) <= set(action["inputs"])
    (output,) = re.findall(r"steps\.cards\.outputs\.(\w+)", steps["steps"][1]["with"]["sarif_file"])
    assert output in action["outputs"]


def test_the_comments_of_the_page_take_findings_back() -> None:
    (shown,) = (
        block.text
        for block in read(PAGE).blocks
        if block.language == "markdown" and block.text.startswith("<!-- relforge-lint")
    )
    card = "```bash\nls || exit 1\n```\n\n```bash\nping xxxx\n```\n"
    found = {"shell-exit", "shell-placeholder"}
    assert found <= {one.rule for one in lint([parse(card)])}
    first, second = shown.splitlines()
    assert not found & {one.rule for one in lint([parse(f"{second}\n\n{first}\n\n{card}")])}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_own_pages_have_no_finding(path: Path) -> None:
    findings = lint([read(path)])
    assert not findings, "\n".join(f"{one.line}: {one.rule}: {one.message}" for one in findings)
