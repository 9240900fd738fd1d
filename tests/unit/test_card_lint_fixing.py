"""`--fix` repairs the mechanical mistakes, and leaves every other byte as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relforge.card.lint.check import lint
from relforge.card.lint.document import parse
from relforge.card.lint.fixing import fix

CARDS = Path(__file__).resolve().parents[1] / "cards"
CLEAN = sorted((CARDS / "clean").glob("*.md"))
MECHANICAL = {
    "encoding-mojibake",
    "markup-unclosed-fence",
    "shell-fence-language",
    "markup-heading-level",
    "evaluation-decimals",
}
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")

BROKEN = """\
# Caf\u00c3\u00a9

#### Weights

##### One

#### Image

```
git status
```

## Results \uf8ff\u00fc\u00ec\u00e5

| Task | n | A | B |
|---|---|---|---|
| GSM8K (EM) | 1319 | 69.70 | **69.7** |
| MMLU (EM) | 14042 | 89 | 88.71 |
| GPQA-Diamond (EM) | 198 | 70.20 | 69.19 |
| AIME 2024 (EM) | 30 | 76.67 | 76.667 |
| MATH-500 (EM) | 500 | 76.20 | 76.40 |

~~~text
never closed
"""


def test_every_mechanical_mistake_is_repaired() -> None:
    text, changes = fix(BROKEN)
    assert text == (
        "# Café\n\n## Weights\n\n### One\n\n## Image\n\n```bash\ngit status\n```\n\n"
        "## Results 📌\n\n"
        "| Task | n | A | B |\n|---|---|---|---|\n| GSM8K (EM) | 1319 | 69.70 | **69.70** |\n"
        "| MMLU (EM) | 14042 | 89.00 | 88.71 |\n| GPQA-Diamond (EM) | 198 | 70.20 | 69.19 |\n"
        "| AIME 2024 (EM) | 30 | 76.67 | 76.667 |\n| MATH-500 (EM) | 500 | 76.20 | 76.40 |\n\n"
        "~~~text\nnever closed\n~~~\n"
    )
    assert {change.rule for change in changes} == MECHANICAL
    # The value with more decimals than the others is not cut.
    left = [one for one in lint([parse(text)]) if one.rule in MECHANICAL]
    assert [(one.rule, one.line) for one in left] == [("evaluation-decimals", 20)]


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_a_clean_card_stays(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert fix(text) == (text, ())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_marks_stay(end: str) -> None:
    broken = "\ufeff" + BROKEN.replace("\n", end)
    text, _ = fix(broken)
    assert text == "\ufeff" + fix(BROKEN)[0].replace("\n", end)


def test_a_last_line_without_end_is_closed() -> None:
    assert fix("```text\nx")[0] == "```text\nx\n```\n"


def test_what_is_not_certain_stays() -> None:
    for text in (
        "> ```text\n> within a quote\n",
        "```\ngit version 2.39.2\n```\n",
        "```\ncat: /x: No such file\nmake 4.3\n```\n",
        "```\ngit status\nOn branch main\n```\n",
        "```\nsome output 1\nsome output 2\n```\n",
        "```\ncd /opt\nserver:\n  port: 1\n  name: two\n```\n",
        "Ligne une: déjà vu, «été» — “où”\n",
    ):
        assert fix(text) == (text, ())


def test_a_session_is_named_one() -> None:
    text = "```\n$ git status\nOn branch main\n```\n"
    assert fix(text)[0] == text.replace("```\n$", "```console\n$")


def test_what_is_ignored_stays() -> None:
    assert fix(BROKEN, without=MECHANICAL) == (BROKEN, ())
    text = "<!-- relforge-lint: ignore encoding-mojibake shows the fault -->\nCaf\u00c3\u00a9\n"
    assert fix(text) == (text, ())


_FRAGMENTS = st.sampled_from(
    [
        "# Title", "## Part", "### Deep", "##### Deeper", "text", "```", "```bash",
        "Caf\u00c3\u00a9 \u00e2\u20ac\u201d",
        "~~~", "git status", "> quote", "> ```", "- item", "  ```", "| a | b |", "|---|---|",
        "| 1.5 | 2 |", "", "", "a: 1", "b:", "  c: 2", "d: 3", "***", "---", "<!-- x -->", "\tcode",
        "#\u201e\u00c4\u00eao\u201e\u00c4\u00eb", "Title\n===", "\u00c2\u00b10.5",
    ]
)  # fmt: skip


@given(
    st.lists(st.one_of(_FRAGMENTS, st.text(max_size=12)), max_size=25),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_only_the_named_lines_change_and_once_is_enough(
    lines: list[str], end: str, ended: bool
) -> None:
    text = end.join(lines) + (end if ended else "")
    repaired, changes = fix(text)
    before, after = _LINES.findall(text), _LINES.findall(repaired)
    named = {change.line for change in changes}
    closed = any(change.rule == "markup-unclosed-fence" for change in changes)
    assert len(after) == len(before) + closed
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        last = closed and number == len(before)
        if number not in named and not last:
            assert old == new
        elif last and number not in named:
            assert new.rstrip("\r\n") == old.rstrip("\r\n")
    assert fix(repaired) == (repaired, ())


@given(
    st.sampled_from(CLEAN),
    st.integers(0, 400),
    st.sampled_from(["Caf\u00c3\u00a9", "\u00c2\u00b15"]),
)
@settings(max_examples=60, deadline=None)
def test_a_planted_fault_is_taken_out_again(path: Path, at: int, word: str) -> None:
    clean = path.read_text(encoding="utf-8").split("\n")
    at %= len(clean)
    planted = "\n".join([*clean[:at], f"{clean[at]} {word}", *clean[at + 1 :]])
    meant = "\n".join(
        [*clean[:at], f"{clean[at]} {word.encode('cp1252').decode()}", *clean[at + 1 :]]
    )
    if fix(meant)[0] == meant:
        assert fix(planted)[0] == meant
