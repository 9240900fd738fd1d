"""The rules' part of docs/card-lint.md, made of the rules and of the cards that show them.

python -m tests.support.card_lint_docs      writes it
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from relforge.card.lint.document import Document, read
from relforge.card.lint.finding import Rule
from relforge.card.lint.rules import all_rules

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "card-lint.md"
CARDS = ROOT / "tests" / "cards" / "rules"
_BEGIN = "<!-- begin of the rules, written by python -m tests.support.card_lint_docs -->\n"
_END = "<!-- end of the rules -->\n"
_EXPECTED = re.compile(r"<!-- expect: ([\d, ]+) -->\s*\Z")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd]")


def page() -> str:
    """The whole page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.split(_BEGIN)[0], text.split(_END)[1]
    return head + _BEGIN + "\n" + _rules() + "\n" + _END + tail


def _rules() -> str:
    rules = sorted(all_rules(), key=lambda rule: rule.id.partition("-")[0])
    parts = []
    for theme, several in groupby(rules, key=lambda rule: rule.id.partition("-")[0]):
        listed = list(several)
        rows = [f"| [{rule.id}](#{rule.id}) | {rule.severity} | {rule.title} |" for rule in listed]
        parts.append(
            f"### {theme.capitalize()}\n\n| rule | severity | the mistake |\n|---|---|---|\n"
            + "\n".join(rows)
        )
        parts += [_one(rule) for rule in listed]
    return "\n\n".join(parts) + "\n"


def _one(rule: Rule) -> str:
    words = f"#### {rule.id}\n\n{rule.title}. {rule.why} Remedy: {rule.remedy}."
    path = CARDS / f"{rule.id}.md"
    if not path.exists():
        return words  # another test demands the card
    text = path.read_text(encoding="utf-8")
    expected = _EXPECTED.search(text)
    assert expected is not None, path
    shown = _HIDDEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", text[: expected.start()])
    fence = "`" * max(4, 1 + max((len(run) for run in re.findall(r"`+", shown)), default=0))
    finding = next(f for f in rule.findings((read(path), *_beside(path))) if f.file == str(path))
    # Cards beside each other are named by their paths, which differ from checkout to checkout.
    message = finding.message.replace(f"{CARDS}/", "")
    said = _HIDDEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", message)
    return (
        f"{words}\n\n{fence}markdown\n{shown.rstrip()}\n{fence}\n\n"
        f"{fence}text\n{path.name}:{finding.line}: {finding.severity} {rule.id}: {said}\n{fence}"
    )


def _beside(path: Path) -> list[Document]:
    beside = path.with_suffix(".beside.md")
    return [read(beside)] if beside.exists() else []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
