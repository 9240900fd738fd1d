"""The known defects of published documents: classified whole, and held by scripts/lint_seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.card.lint.check import lint
from relforge.card.lint.document import parse
from relforge.card.lint.rules import all_rules
from tests.unit.test_card import card

ROOT = Path(__file__).resolve().parents[2]
DEFECTS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (ROOT / "tests" / "data" / "seed_defects.yaml").read_text(encoding="utf-8")
)
ENTRIES = {"000": 31, "001": 22, "002": 14, "003": 22, "004": 21}
"""How many numbered entries the list of defects has for each document."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/lint_seeds."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "lint_seeds"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_entry_is_classified() -> None:
    assert {
        seed: sorted({entry["entry"] for entry in entries}) for seed, entries in DEFECTS.items()
    } == {seed: list(range(1, count + 1)) for seed, count in ENTRIES.items()}


@pytest.mark.parametrize("seed", DEFECTS)
def test_visible_defects_name_rules_and_lines_and_the_others_a_reason(seed: str) -> None:
    rules = {rule.id for rule in all_rules()}
    for entry in DEFECTS[seed]:
        assert entry["what"]
        if entry["visible"]:
            assert entry["reported"].keys() <= rules, entry
            assert all(lines for lines in entry["reported"].values())
        else:
            assert "reported" not in entry
            assert len(entry["reason"].split()) > 4


def test_without_the_documents_the_script_says_so(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 3
    assert "000_*.txt" in done.stderr


def test_documents_without_the_defects_miss_them(tmp_path: Path) -> None:
    for seed in DEFECTS:
        (tmp_path / f"{seed}_x.txt").write_text("# Nothing\n\nis wrong here.\n", encoding="utf-8")
    done = run(str(tmp_path))
    assert done.returncode == 6
    missed = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["000", "3", "MISSED"] in missed


def test_our_own_card_has_no_finding() -> None:
    assert lint([parse(card(), "README.md")]) == ()
