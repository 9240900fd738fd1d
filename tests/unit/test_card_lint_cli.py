"""`relforge card lint`: what it prints, how it ends, and what a comment takes back."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from relforge.card.lint.check import lint
from relforge.card.lint.document import parse
from relforge.card.lint.many import Card, lint_cards
from relforge.card.lint.rules import all_rules
from relforge.cli.dispatch import dispatch

ROOT = Path(__file__).resolve().parents[1]
CLEAN = ROOT / "cards" / "clean" / "gpu.md"
SCHEMA = json.loads((ROOT / "data" / "sarif-2.1.0-subset.schema.json").read_text())
FAULTY = '# One\n\n```bash\nreadonly A=1\necho "$B\n```\n'


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.md"
    path.write_text(FAULTY)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = dispatch("card", ["lint", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def mine(text: str) -> list[tuple[int, str]]:
    """Findings of the themes of this file's cards; a card of a few lines lacks what others ask."""
    return [(one.line, one.rule) for one in lint([parse(text)]) if one.rule.startswith("shell-")]


def test_text_names_place_rule_and_remedy(capsys: pytest.CaptureFixture[str], card: Path) -> None:
    status, out, err = run(capsys, card)
    assert status == 6
    lines = out.splitlines()
    at = lines.index(
        f"{card}:4: warning shell-readonly: `readonly A`: pasted a second time, the block fails"
    )
    assert lines[at + 1] == "    set it without readonly"
    assert any(line.startswith(f"{card}:5: error shell-syntax: ") for line in lines)
    assert "1 card: " in err
    assert " error" in err
    assert "shell-" not in err


def test_a_card_without_errors_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, CLEAN) == (0, "", "1 card: nothing found\n")


def test_warnings_are_shown_and_fail_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "card.md"
    path.write_text(CLEAN.read_text().replace("```bash\n", "```bash\nreadonly A=1\n", 1))
    status, out, err = run(capsys, path)
    assert status == 0
    assert "warning shell-readonly" in out
    assert err == "1 card: 1 warning\n"


def test_json_is_a_list_of_findings(capsys: pytest.CaptureFixture[str], card: Path) -> None:
    status, out, _ = run(capsys, card, "--json")
    assert status == 6
    found = json.loads(out)
    assert {tuple(one) for one in found} == {
        ("file", "line", "rule", "severity", "message", "remedy")
    }
    assert [one["line"] for one in found if one["rule"] == "shell-syntax"] == [5]
    status, out, _ = run(capsys, CLEAN, "--json")
    assert (status, json.loads(out)) == (0, [])


def test_sarif_satisfies_the_standard(
    capsys: pytest.CaptureFixture[str], card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(card.parent)
    status, out, _ = run(capsys, card, "--sarif")
    assert status == 6
    log: Any = json.loads(out)
    jsonschema.Draft7Validator(SCHEMA).validate(log)
    (found,) = log["runs"]
    rules = found["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in all_rules()]
    assert all(rule["help"]["text"] for rule in rules)
    syntax = [one for one in found["results"] if one["ruleId"] == "shell-syntax"]
    assert rules[syntax[0]["ruleIndex"]]["id"] == "shell-syntax"
    assert syntax[0]["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "card.md"},
                "region": {"startLine": 5},
            }
        }
    ]


def test_a_folder_is_every_card_below_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("a.md", "sub/b.md", ".git/c.md", "node_modules/d.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FAULTY)
    (tmp_path / "e.txt").write_text(FAULTY)
    _, out, err = run(capsys, tmp_path, tmp_path / "a.md", "--json")
    assert {one["file"] for one in json.loads(out)} == {
        str(tmp_path / "a.md"),
        str(tmp_path / "sub" / "b.md"),
    }
    assert err.startswith("2 cards: ")


def test_a_folder_without_cards_is_no_clean_card(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory, card: Path
) -> None:
    tmp_path = tmp_path_factory.mktemp("folder")
    (tmp_path / "e.txt").write_text(FAULTY)
    (tmp_path / "folder.md").mkdir()
    status, out, err = run(capsys, tmp_path)
    assert (status, out) == (2, "")
    assert "there is no card in the folder" in err
    status, out, _ = run(capsys, tmp_path, card, "--json")
    assert status == 2
    assert {one["file"] for one in json.loads(out)} == {str(card)}, "the others are linted"


def test_a_key_that_stands_twice_in_the_front_matter_is_found() -> None:
    text = "---\nlicense: mit\ntags: [a]\nlicense: apache-2.0\n---\n\n# Card\n"
    (found,) = [one for one in lint([parse(text)]) if one.rule == "yaml-repeated-key"]
    assert found.line == 4
    assert found.message == "the key `license` stands in line 2 already"


def test_front_matter_that_does_not_end_is_found_and_a_rule_is_none() -> None:
    def found(text: str) -> list[tuple[int, str]]:
        hits = lint([parse(text)])
        return [(one.line, one.severity) for one in hits if one.rule == "metadata-front-matter"]

    assert found("---\nlicense: mit\ntags: [a]\n\n# Card\n") == [(1, "error")]
    assert found("\ufeff---\nbase_model: a/b\n# Card\n") == [(1, "error")]
    assert found("---\n\n# Card\n\nNote: this is text.\n") == []
    assert found("---\nlicense: mit\n---\n\n# Card\n") == []


def test_many_cards_are_linted_as_each_alone() -> None:
    cards = [
        Card(f"{number}.md", FAULTY.replace("One", f"Card {number}"), None) for number in range(120)
    ]
    several = lint_cards(cards, processes=3, without=["shell-exit"])
    assert several == lint_cards(cards, processes=1, without=["shell-exit"])
    assert len({one.file for one in several if one.rule == "shell-syntax"}) == 120


def test_standard_input_is_a_card(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FAULTY.encode())))
    status, out, _ = run(capsys, "-", "--json")
    assert status == 6
    assert {one["file"] for one in json.loads(out)} == {"-"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# One\n\x00\x01", "this is no text"),
        ("# Größe\n".encode("latin-1"), "byte 4 is 0xf6"),
        ("# One\n".encode("utf-16"), "this is no text"),
        (None, "No such file"),
    ],
)
def test_what_is_no_card_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, card: Path, data: bytes | None, said: str
) -> None:
    path = tmp_path / "other.md"
    if data is not None:
        path.write_bytes(data)
    status, out, err = run(capsys, path, card)
    assert status == 2
    assert said in err
    assert "other.md" in err
    assert "shell-syntax" in out, "the other card is linted all the same"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--json", "--sarif", CLEAN],
        ["--rules", CLEAN],
        ["--ignore", "shell-synax", CLEAN],
        ["--explain", "nothing"],
        ["--fix", "-"],
    ],
)
def test_wrong_words_are_a_usage_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[object]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"# One\n")))
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert "error" in err
    if "shell-synax" in words:
        assert "did you mean shell-syntax?" in err


def test_rules_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--rules")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [rule.id for rule in all_rules()]
    for rule in all_rules():
        status, out, _ = run(capsys, "--explain", rule.id)
        assert status == 0
        assert rule.why in out
        assert rule.remedy in out
    _, out, _ = run(capsys, "--rules", "--json")
    assert len(json.loads(out)) == len(all_rules())


def test_a_rule_can_be_left_out(capsys: pytest.CaptureFixture[str], card: Path) -> None:
    _, out, _ = run(capsys, card, "--ignore", "shell-syntax", "--ignore", "shell-readonly")
    assert "shell-syntax" not in out
    assert "shell-readonly" not in out


def test_fix_writes_the_file_and_says_what(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "card.md"
    broken = CLEAN.read_text().replace("## Contact", "## Cont\u00c3\u00a4ct").encode()
    path.write_bytes(broken.replace(b"\n", b"\r\n"))
    path.chmod(0o640)
    link = tmp_path / "link.md"
    link.symlink_to(path)
    status, out, err = run(capsys, "--fix", link)
    assert (status, out) == (0, "")
    assert "repaired encoding-mojibake" in err
    assert path.read_bytes().decode() == CLEAN.read_text().replace(
        "## Contact", "## Contäct"
    ).replace("\n", "\r\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink()
    before = path.stat()
    run(capsys, "--fix", path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns, "nothing to repair, nothing is written"


def test_a_comment_with_a_reason_takes_a_finding_back() -> None:
    block = '```bash\nreadonly A=1\n\necho "$A\n```\n'
    assert mine(block) == [(2, "shell-readonly"), (4, "shell-syntax")]
    for comment, left in {
        "<!-- relforge-lint: ignore shell-syntax, shell-readonly a test -->\n": [],
        "<!-- relforge-lint: ignore shell-syntax a test -->\n\n": ["shell-readonly"],
        "<!-- relforge-lint: ignore shell-syntax -->\n": ["shell-readonly", "shell-syntax"],
        "<!-- relforge-lint: ignore shell-syntax a test -->\n\ntext\n\n": [
            "shell-readonly",
            "shell-syntax",
        ],
        "<!-- relforge-lint: ignore-file shell-syntax a test -->\n\ntext\n\n": ["shell-readonly"],
        "```text\n<!-- relforge-lint: ignore-file shell-syntax a test -->\n```\n": [
            "shell-readonly",
            "shell-syntax",
        ],
    }.items():
        assert [rule for _, rule in mine(comment + block)] == left, comment
