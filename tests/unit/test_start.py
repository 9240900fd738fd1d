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


def test_sending_a_release_loads_nothing_of_what_made_it() -> None:
    """Nor chardet, which requests would take to guess at encodings that nobody asks for."""
    made = ("relforge.plan", "relforge.lock", "relforge.manifest.release", "relforge.stages")
    program = (
        "import sys, relforge.cli.sending, relforge.publishing.gate;"
        " import relforge.publishing.targets.registry;"
        " from relforge.network import load_requests; load_requests();"
        " import relforge.oci.connecting;"
        f" print(*sorted(set({(*made, 'chardet')!r}) & set(sys.modules)));"
        " import importlib.util; importlib.util.find_spec('chardet')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(builtin_root())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
