"""Sealing, opening and rotating stream: their memory does not grow with the patches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_hundred_megabytes_take_less_memory_than_that(tmp_path: Path) -> None:
    """The benchmark, small: it fails when relforge's own process takes more than 100 MB."""
    script = Path(__file__).parents[2] / "scripts" / "bench_seal.py"
    done = subprocess.run(
        [sys.executable, script, "--megabytes", "100", "--dir", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("seal", "open", "rotate"):
        assert done.stdout.count(what) == 2
