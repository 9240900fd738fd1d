"""Clean cards give no finding; every rule finds its fault wherever it is planted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relforge.card.lint.check import lint
from relforge.card.lint.document import Document, parse, read
from relforge.card.lint.finding import Finding
from relforge.card.lint.rules import all_rules
from tests.support.card_mutations import Mutation, all_mutations

CARDS = Path(__file__).resolve().parents[1] / "cards"
CLEAN = sorted((CARDS / "clean").glob("*.md"))
MUTATIONS = all_mutations()
FIXTURES = sorted(path for path in (CARDS / "rules").glob("*.md") if ".beside" not in path.name)
_EXPECTED = re.compile(r"<!-- expect: ([\d, ]+) -->\s*\Z")


def told(findings: tuple[Finding, ...]) -> str:
    """Findings as a failing test prints them."""
    return "\n".join(f"{f.file}:{f.line}: {f.rule}: {f.message}" for f in findings)


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_a_clean_card_has_no_finding(path: Path) -> None:
    findings = lint([read(path)])
    assert not findings, told(findings)


def test_clean_cards_side_by_side_have_no_finding() -> None:
    findings = lint([read(path) for path in CLEAN])
    assert not findings, told(findings)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.rule}: {m.name}")
def test_a_planted_fault_is_found(mutation: Mutation) -> None:
    places = 0
    for path in CLEAN:
        clean = path.read_text(encoding="utf-8")
        planted = mutation.change(clean)
        if planted is None:
            continue
        places += 1
        documents = [parse(planted, path.name, path.parent)]
        if mutation.beside is not None:
            documents.append(parse(mutation.beside(clean), f"beside {path.name}", path.parent))
        findings = lint(documents)
        rules = {finding.rule for finding in findings}
        assert mutation.rule in rules, f"not found in {path.name}"
        assert rules <= {mutation.rule, *mutation.along}, told(findings)
    assert places >= 2, "a mutation of fewer than two cards proves little"


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_fixture_shows_its_rule_alone(path: Path) -> None:
    documents: list[Document] = [read(path)]
    beside = path.with_suffix(".beside.md")
    if beside.exists():
        documents.append(read(beside))
    found = [finding for finding in lint(documents) if finding.file == str(path)]
    assert {finding.rule for finding in found} == {path.stem}, told(tuple(found))
    expected = _EXPECTED.search(documents[0].text)
    assert expected is not None, "the last line must say where the rule fires"
    assert [finding.line for finding in found] == [int(line) for line in expected[1].split(",")]
    assert all(finding.message and finding.remedy for finding in found)


def test_every_rule_has_a_fixture_and_a_mutation() -> None:
    rules = {rule.id for rule in all_rules()}
    assert len(rules) == len(all_rules()), "an id is used twice"
    assert {path.stem for path in FIXTURES} == rules
    assert {mutation.rule for mutation in MUTATIONS} == rules
