"""docs/release-notes.md: its commands run, and print what it says they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root
from relforge.manifest.schema import models
from tests.support.doc_blocks import marked
from tests.support.records import NEWER, record, write_record

TEXT = (builtin_root() / "docs" / "release-notes.md").read_text()


def test_the_example_is_what_the_program_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [n >= 80 for n in range(1000)]
    after = [n >= 115 or n < 39 for n in range(1000)]
    write_record(tmp_path / "old" / "hello-gpu", record(), before)
    write_record(tmp_path / "new" / "hello-gpu", record(*NEWER), after)
    monkeypatch.chdir(tmp_path)
    (block,) = (one.text for one in marked("docs/release-notes.md", __file__))
    outputs = []
    for line in block.splitlines():
        words = shlex.split(line.partition("  #")[0])
        assert words[:2] == ["relforge", "notes"]
        assert dispatch("notes", words[2:]) == 0, capsys.readouterr().err
        outputs.append(capsys.readouterr().out)
    (shown,) = re.findall(r"```markdown\n(.*?)```", TEXT, re.S)
    assert shown.strip() in outputs[0]
    assert "准确率" in (tmp_path / "NOTES_zh.md").read_text()
    assert "first release" in outputs[2]
    assert "notes-output" in models()
