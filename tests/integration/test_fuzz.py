"""Everything that reads bytes from strangers, under a coverage-guided fuzzer, for some seconds."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parsers import TARGETS

CHECKOUT = Path(__file__).resolve().parents[2]
HAS_ATHERIS = "RELFORGE_ALL_TESTS" in os.environ or importlib.util.find_spec("atheris") is not None
SECONDS = 3

pytestmark = pytest.mark.skipif(not HAS_ATHERIS, reason="extra 'fuzz' is not installed")


def fuzz(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = str(CHECKOUT / "scripts" / "fuzz")
    argv = [sys.executable, program, "--hypothesis", "0", *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_a_reader(tmp_path: Path, target: str) -> None:
    done = fuzz(tmp_path, "--seconds", str(SECONDS), target)
    assert done.returncode == 0, done.stdout + done.stderr
    name, inputs, *_rest = done.stdout.split()
    assert name == target
    assert int(inputs) > 100


def test_a_fault_is_found_told_and_kept(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--seconds", "20", "planted-fault")
    assert done.returncode == 1
    assert "the planted fault" in done.stderr
    (kept,) = tmp_path.glob("fuzz-planted-fault-crash-*")
    assert kept.read_bytes()
