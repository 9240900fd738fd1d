"""docs/diagnosis.md: its example is what the command prints, its table the one of the code."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root
from relforge.serving.diagnosis.listing import as_markdown

TEXT = (builtin_root() / "docs" / "diagnosis.md").read_text()
COMMANDS = TEXT.split("```bash\n")[1].split("```")[0].splitlines()
LOG, SAID = (part.split("```")[0] for part in TEXT.split("```text\n")[1:3])


def test_the_example_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.log").write_text(LOG)
    monkeypatch.chdir(tmp_path)
    _, verb, *words = shlex.split(COMMANDS[1])
    assert dispatch(verb, [*words, "--project", str(builtin_root())]) == 0
    assert capsys.readouterr().out == SAID


def test_every_command_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.log").write_text(LOG)
    monkeypatch.chdir(tmp_path)
    for command in (COMMANDS[0], COMMANDS[3]):
        _, verb, *words = shlex.split(command)
        assert dispatch(verb, words) == 0
    assert capsys.readouterr().out.count("context-too-long") == 2


def test_the_table_is_the_one_of_the_code() -> None:
    """After a change of the table: relforge explain --list, and put it there."""
    assert TEXT.endswith(as_markdown())
