"""docs/tuning.md: commands print what stands below them, and figures are those of the evidence."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root
from relforge.manifest.tuning import Tuning
from relforge.serving.probes import PROBES
from relforge.tuning.evidence import load_tuning
from relforge.tuning.record import result_of
from relforge.tuning.served import JUDGING
from tests.support.doc_blocks import marked

TEXT = (builtin_root() / "docs" / "tuning.md").read_text()
SHOWN = re.findall(
    r"^```bash\n(relforge tune --evidence \S+)\n```\n\n```\n([^`]*)```\n", TEXT, re.M
)


def test_each_command_prints_what_stands_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(builtin_root())
    commands = [block.text.strip() for block in marked("docs/tuning.md", __file__)]
    assert commands == [command for command, _ in SHOWN]
    for command, printed in SHOWN:
        assert dispatch("tune", shlex.split(command)[2:]) == 0
        assert capsys.readouterr().out == printed


def test_the_table_is_what_the_evidence_says() -> None:
    folder = builtin_root() / "examples" / "tuning"
    rows = re.findall(r"^\| (h200-\S+\.json) \| (.*) \|$", TEXT, re.M)
    assert sorted(name for name, _ in rows) == sorted(path.name for path in folder.iterdir())
    for name, row in rows:
        loaded = load_tuning(folder / name)
        result, about = result_of(loaded.tuning), loaded.subject
        assert row.split(" | ") == [
            ", ".join(result["culprits"]),
            str(result["evaluations"]),
            str(result["search_evaluations"]),
            f"{result['bound']:g}",
            f"{result['seconds']:.0f}",
        ]
        assert about["driver"] == "580.159.04"
        assert about["versions"]["torch"].startswith("2.11.0")
        assert (about["versions"]["triton"], about["versions"]["flag_gems"]) == ("3.6.0", "5.0.2")
        assert len(loaded.tuning.operators) == 398
        assert about["planted"] == (["cos+sin", "silu"] if "planted" in name else [])


def test_the_probes_named_are_those_that_are_asked() -> None:
    (listed,) = re.findall(r"\(docs/smoke\.md: ([^)]*)\)", TEXT)
    named = re.findall(r"`([\w-]+)`", listed)
    assert named == [probe.name for probe in PROBES if probe.name in JUDGING]
    assert len(named) == len(JUDGING)


def test_the_manifest_shown_is_one() -> None:
    (block,) = re.findall(r"^```yaml\n(tuning:.*?)```", TEXT, re.M | re.S)
    shown = Tuning.model_validate(yaml.safe_load(block)["tuning"])
    assert shown.separator == ","
    assert shown.list_command[-1].endswith("sep='\\n')")
