"""The top-level help is instant, and wrong commands get the nearest one."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("docker", "pydantic", "jinja2", "git", "requests", "rich", "typer")


def relforge(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from relforge.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from relforge.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ending:\n    assert ending.code == 0\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "print('HEAVY', heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert "relforge COMMAND" in done.stdout


def test_help_names_every_command_and_every_command_has_help() -> None:
    from relforge.cli import COMMANDS

    listed = relforge("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in listed


@pytest.mark.parametrize(
    "command", ["release", "unpatch", "patch", "keys", "lock", "doctor", "init"]
)
def test_a_command_explains_itself(command: str) -> None:
    done = relforge(command, "--help")
    assert done.returncode == 0
    assert "--help" in done.stdout
    assert f"relforge {command}" in done.stdout


def test_a_misspelt_command_gets_the_nearest_one() -> None:
    done = relforge("relaese")
    assert done.returncode == 2
    assert "did you mean 'relforge release'?" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert relforge("devices", "--nonsense").returncode == 2


def test_an_unknown_device_is_a_usage_error_that_suggests() -> None:
    done = relforge("plan", "--device", "cpu_x68")
    assert done.returncode == 2
    assert "did you mean 'cpu_x86'?" in done.stderr
    assert "Traceback" not in done.stderr
