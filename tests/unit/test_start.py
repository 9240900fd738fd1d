"""A verb starts quickly: what only other verbs, or a run, need is not imported for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from relforge.manifest.project import builtin_root

# Ciphers, the network, the engine, git, templates and thread pools: as much again as the rest.
SLOW = (
    "concurrent.futures",
    "cryptography",
    "docker",
    "git",
    "jinja2",
    "pyrage",
    "requests",
    "rich",
    "ssl",
    "unearth",
)


@pytest.mark.parametrize(
    ("verb", "needed"),
    [("plan", ()), ("check", ("concurrent.futures", "jinja2")), ("render", ()), ("devices", ())],
)
def test_a_verb_imports_nothing_slow_before_it_knows_its_work(
    verb: str, needed: tuple[str, ...]
) -> None:
    program = (
        "import sys; import typer.main; before = set(sys.modules);"
        f" import relforge.cli.{verb};"
        f" print(*sorted(set({SLOW!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(builtin_root())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split()) == sorted(needed)
