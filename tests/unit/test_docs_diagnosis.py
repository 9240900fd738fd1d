"""docs/diagnosis.md: its example is what the command prints, its table the one of the code."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root
from relforge.serving.diagnosis.listing import as_markdown
from tests.support.doc_blocks import Shell, marked

TEXT = (builtin_root() / "docs" / "diagnosis.md").read_text()
(BLOCK,) = marked("docs/diagnosis.md", __file__)
LOG, SAID = (part.split("```")[0] for part in TEXT.split("```text\n")[1:3])


def test_the_example_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.log").write_text(LOG)
    monkeypatch.chdir(tmp_path)
    _, verb, *words = shlex.split(BLOCK.text.splitlines()[1])
    assert dispatch(verb, [*words, "--project", str(builtin_root())]) == 0
    assert capsys.readouterr().out == SAID


def test_every_command_runs(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "server.log").write_text(LOG)
    said = Shell(folder).type(BLOCK).stdout
    assert said.count("1. context-too-long") == 3
    assert said.endswith(as_markdown().splitlines()[-1] + "\n")


def test_the_table_is_the_one_of_the_code() -> None:
    """After a change of the table: relforge explain --list, and put it there."""
    assert TEXT.endswith(as_markdown())
