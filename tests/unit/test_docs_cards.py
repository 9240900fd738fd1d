"""docs/cards.md: its commands do what it says, its options are those of the command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from relforge.card.blocks import NAMES, free_texts
from relforge.cli.dispatch import dispatch
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.translations import Translations
from tests.support.doc_blocks import marked

TEXT = (builtin_root() / "docs" / "cards.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in marked("docs/cards.md", __file__)
    for line in block.text.splitlines()
]


def test_the_commands_write_and_find_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(builtin_root())
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        words = shlex.split(command.replace("/tmp/cards", "cards"))[2:]
        if "--out" in words:
            words[words.index("--out") + 1] = str(tmp_path / "cards")
        else:
            words += ["--out", str(tmp_path / "cards")]
        assert dispatch("card", words) == 0, capsys.readouterr().err
    written = {path.parent.name for path in (tmp_path / "cards").glob("*/README.md")}
    assert written == set(Project((builtin_root(),)).own_releases)


def test_every_option_of_the_table_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch("card", ["--help"])
    shown = capsys.readouterr().out
    options = set(re.findall(r"^\| `(--[a-z]+)", TEXT, re.M))
    assert len(options) >= 6
    assert all(option in shown for option in options)


def test_the_examples_are_what_the_program_reads() -> None:
    example = re.search(r"```markdown\n(.*?)```", TEXT, re.S)
    assert example is not None
    assert free_texts(example[1], "docs") == {
        "introduction": "Questions go to the forum of the project."
    }
    named = re.search(r"There are three blocks: (.*?)\.", TEXT)
    assert named is not None
    assert re.findall(r"`(\w+)`", named[1]) == list(NAMES)
    block = re.search(r"```yaml\n(.*?)```", TEXT, re.S)
    assert block is not None
    read = Translations.model_validate(yaml.safe_load(block[1]))
    ours = Project((builtin_root(),)).translations(read.language)
    assert read.sentences.items() <= ours.items()
