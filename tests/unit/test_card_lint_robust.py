"""No text breaks the linter: cards that were cut and mixed up are linted like others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relforge.card.lint.check import lint
from relforge.card.lint.document import parse
from relforge.card.lint.fixing import fix

CARDS = sorted((Path(__file__).resolve().parents[1] / "cards").rglob("*.md"))
TOKENS = [
    "```", "```bash\n", "```yaml\n", "$", "${", "${A:", '"', "'", "`", "\\\n", "\\", "<", ">",
    "<x>", "|", "#", "\n\n", "\x00", "\ufeff", "\ufffd", "\u202e", "<!--", "-->", "---\n",
    "[", "]", "(",
    ")", "{{", "}}", "    ", "\t", "\r", "\u00c3\u00a9", "docker run ", "docker exec ", "cd ", "&",
    "hf download", "<<EOF\n", "`--a(b`", "vllm serve ", "--model", "- a: b\n", "1/0", "\U0001f4cc",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_cards_that_were_cut_and_mixed_up_are_linted(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        text = chance.choice(CARDS).read_text(encoding="utf-8")
        for _ in range(chance.randint(1, 12)):
            at = chance.randint(0, len(text))
            skip = chance.choice((0, chance.randint(1, 60)))
            text = text[:at] + ("" if skip else chance.choice(TOKENS)) + text[at + skip :]
        document = parse(text, "mixed.md")
        for finding in lint([document]):
            assert 1 <= finding.line <= len(document.lines), finding
            assert finding.message
            assert finding.remedy
        repaired, _ = fix(text)
        assert fix(repaired) == (repaired, ())


@pytest.mark.parametrize(
    "value", ["2024-02-31", "!!timestamp x", "!!int ''", "!!bool maybe", "!!float x", "{? [a] : b}"]
)
def test_yaml_that_parses_and_has_no_data_is_linted_like_any_other(value: str) -> None:
    text = f"---\nlicense: mit\nreleased: {value}\n---\n# A card\n\n```bash\nvllm serve x\n```\n"
    document = parse(text + f"\n```yaml\nmodel: x\nreleased: {value}\n```\n")
    assert "metadata-front-matter" in {finding.rule for finding in lint([document])}
