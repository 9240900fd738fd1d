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


@pytest.mark.parametrize(
    "target", ["folder", "git", "huggingface", "modelscope", "registry", "tar"]
)
def test_sending_a_release_loads_nothing_of_what_made_it(target: str) -> None:
    made = ("plan", "lock", "stages", "manifest.device", "manifest.facts", "manifest.release")
    assert _loaded(
        "import relforge.cli.sending, relforge.publishing.gate;"
        f" import relforge.publishing.targets.{target}",
        *(f"relforge.{name}" for name in made), "requests",
    ) == []  # fmt: skip


def test_requests_comes_without_what_guesses_encodings() -> None:
    pytest.importorskip("chardet")
    loads = "from relforge.network import load_requests; load_requests()"
    assert _loaded(loads, "chardet", "requests") == ["requests"]
    # Whoever wants it later has it.
    assert _loaded(f"{loads}; import chardet", "chardet", "requests") == ["chardet", "requests"]


def _loaded(program: str, *names: str) -> list[str]:
    """Those of the modules that the program has loaded."""
    tells = f"import sys; print(*({set(names)!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {tells}"],
        env={**os.environ, "PYTHONPATH": str(builtin_root())},
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(done.stdout.split())
