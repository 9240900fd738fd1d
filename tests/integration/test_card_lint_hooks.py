"""The pre-commit hooks and the GitHub Action are well-formed, and what they call really runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / ".pre-commit-hooks.yaml"
ACTION = ROOT / ".github" / "actions" / "card-lint" / "action.yml"
CLEAN = (ROOT / "tests" / "cards" / "clean" / "gpu.md").read_text()
FAULTY = CLEAN.replace("docker pull", "docker pull '", 1)
MISREAD = CLEAN.replace("## Contact", "## Cont\u00c3\u00a4ct")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which `relforge` is this checkout's, as after its installation."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "relforge"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from relforge.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    keep = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**keep, "PATH": path, "PRE_COMMIT_HOME": str(tmp_path / "cache")}


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def repository(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Start")
    return folder


def test_the_hooks_are_a_valid_manifest() -> None:
    subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-manifest", HOOKS],
        check=True, capture_output=True,
    )  # fmt: skip
    for hook in yaml.safe_load(HOOKS.read_text()):
        assert hook["language"] == "python"
        assert hook["entry"].split()[:3] == ["relforge", "card", "lint"]


@pytest.mark.parametrize(
    ("hook", "card", "status", "said"),
    [
        ("relforge-card-lint", CLEAN, 0, "Passed"),
        ("relforge-card-lint", FAULTY, 1, "shell-syntax"),
        ("relforge-card-fix", MISREAD, 1, "repaired encoding-mojibake"),
    ],
)
def test_the_hooks_run_on_cards(
    tmp_path: Path, environment: dict[str, str], hook: str, card: str, status: int, said: str
) -> None:
    # The program is there already, so that nothing is installed; the rest is the hook as it is.
    hooks = HOOKS.read_text().replace("language: python", "language: system")
    source = repository(tmp_path / "hooks", {".pre-commit-hooks.yaml": hooks})
    cards = repository(tmp_path / "cards", {"README.md": card, "other.md": FAULTY})
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "try-repo", source, hook, "--all-files", "--verbose"],
        cwd=cards, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout
    assert "other.md" not in done.stdout
    if hook == "relforge-card-fix":
        assert (cards / "README.md").read_text() == CLEAN.replace("## Contact", "## Contäct")


def action() -> Any:
    return yaml.safe_load(ACTION.read_text())


def test_the_action_is_well_formed() -> None:
    described = action()
    assert described["runs"]["using"] == "composite"
    for name, given in described["inputs"].items():
        assert given["description"], name
        assert isinstance(given["default"], str), name
    for step in described["runs"]["steps"]:
        assert step["shell"] == "bash"
        # An expression within a script would run what an input holds.
        assert "${{" not in step["run"]
    (lint,) = [step for step in described["runs"]["steps"] if step.get("id") == "lint"]
    used = {value.strip("${ }").removeprefix("inputs.") for value in lint["env"].values()}
    assert used == set(described["inputs"])
    assert described["outputs"]["sarif"]["value"] == "${{ steps.lint.outputs.sarif }}"
    install = described["runs"]["steps"][0]["run"]
    assert "$GITHUB_ACTION_PATH/../../.." in install
    assert (ACTION.parent / ".." / ".." / ".." / "pyproject.toml").resolve().exists()


@pytest.mark.parametrize(
    ("card", "ignore", "status"),
    [(CLEAN, "", 0), (FAULTY, "", 6), (FAULTY, "shell-syntax supply-mutable-tag", 0)],
)
def test_the_step_of_the_action_lints(
    tmp_path: Path, environment: dict[str, str], card: str, ignore: str, status: int
) -> None:
    (lint,) = [step for step in action()["runs"]["steps"] if step.get("id") == "lint"]
    (tmp_path / "one.md").write_text(CLEAN)
    (tmp_path / "two.md").write_text(card)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        # As a runner starts it.
        [bash, "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", lint["run"]],
        cwd=tmp_path,
        env={
            **environment,
            "FILES": "one.md\ntwo.md\n",
            "IGNORE": ignore,
            "SARIF": "found.sarif",
            "GITHUB_OUTPUT": str(tmp_path / "output"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert (tmp_path / "output").read_text() == "sarif=found.sarif\n"
    results = json.loads((tmp_path / "found.sarif").read_text())["runs"][0]["results"]
    found = {(one["ruleId"], one["level"]) for one in results}
    assert (("shell-syntax", "error") in found) == (status == 6)
    assert ("two.md" in done.stdout) == (status == 6)
