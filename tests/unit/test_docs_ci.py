"""docs/ci.md: its settings are settings, its commands run, its tables are whole."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from relforge.ci.github import PATH
from relforge.ci.matrix import MatrixJob
from relforge.cli import COMMANDS
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode
from relforge.manifest.ci import CiSite
from relforge.manifest.loader import load
from relforge.manifest.project import builtin_root
from relforge.manifest.site import Site
from tests.support.patching import new_repository

TEXT = (builtin_root() / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


def test_the_settings_shown_are_all_but_one_and_most_are_the_defaults(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "site.yaml").write_text(shown)
    found = load(tmp_path / "site.yaml", Site).ci
    assert set(CiSite.model_fields) - set(yaml.safe_load(shown)["ci"]) == {
        "actions", "image", "runner",
    }  # fmt: skip
    other = {
        name for name in CiSite.model_fields if getattr(found, name) != getattr(CiSite(), name)
    }
    assert other == {"labels", "environment", "secrets"}


def test_the_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository(tmp_path / "repository")
    shutil.copytree(builtin_root() / "examples" / "hello", repository.path, dirs_exist_ok=True)
    repository.commit()
    monkeypatch.chdir(repository.path)
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    ran = 0
    for block in BLOCKS:
        for line in block.splitlines():
            program, verb, *words = shlex.split(line, comments=True)
            assert program == "relforge"
            assert dispatch(verb, words) == 0, line
            ran += 1
    assert ran == 5
    assert (repository.path / PATH).is_file()


def test_every_exit_code_is_there() -> None:
    table = TEXT[TEXT.index("| exit code | means |") :].splitlines()[2:]
    codes = [int(row.split("|")[1]) for row in table if row.startswith("|")]
    assert codes == [int(code) for code in ExitCode]


def test_every_verb_that_reports_is_named_and_has_the_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = TEXT.index("## Reports")
    named = re.findall(r"`([a-z]+)`", TEXT[start : TEXT.index("take\n", start)])
    assert len(named) == 10
    assert set(named) <= set(COMMANDS)
    for verb in named:
        assert dispatch(verb, ["--help"]) == 0
        assert {"--junit", "--summary"} <= set(capsys.readouterr().out.split()), verb


def test_every_field_of_a_job_is_named() -> None:
    start = TEXT.index("## The matrix")
    section = TEXT[start : TEXT.index("## What changed")]
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert set(MatrixJob.model_fields) - {"hosted"} <= named
